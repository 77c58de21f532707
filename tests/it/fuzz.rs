//! The service under requests that a machine makes of its OpenAPI document: valid ones are accepted, invalid ones are
//! refused, and every answer is as documented. By Schemathesis, with all of its checks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::conformance::library::repository;
use crate::conformance::no_worker;
use crate::world::client::Client;
use crate::world::media::Clip;
use crate::world::{ADMIN_TOKEN, in_a_world};

/// Examples of each operation and kind that are made up at random, beside the systematic ones. `make fuzz-api` has more.
const EXAMPLES: &str = "5";
/// For the default number, on a machine that does much else: a hang, not a slow run.
const LONGEST: Duration = Duration::from_secs(420);

/// G-35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_made_up_requests_is_as_documented() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("fuzz", 1_000_000.0).await;
        let video_url = client.upload_by_form(&Clip::SMALL.make(world.scratch())).await;
        let mut command = schemathesis(&client, &video_url);
        command.current_dir(world.scratch());
        let limit = if chosen("ROTOLESS_FUZZ_EXAMPLES").is_some() { Duration::MAX } else { LONGEST };
        let output = within(limit, command).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        // It ends well also where it was given nothing to do.
        assert!(said.contains("generated, ") && said.contains("passed"), "{said}");
    })
    .await;
}

fn schemathesis(client: &Client, video_url: &str) -> Command {
    let program = repository().join(".cache/python/bin/schemathesis");
    assert!(program.is_file(), "{} is missing: run scripts/setup-python", program.display());
    let settings = repository().join("tests/schemathesis");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command.arg("--config-file").arg(settings.join("schemathesis.toml"));
    // One worker: parsing on two threads at once now and then ends a run of CPython 3.11 with a SystemError.
    command.args(["run", &client.door.url("/openapi.json"), "--checks", "all", "--no-color", "--workers", "1"]);
    command.args(["--max-examples", &chosen("ROTOLESS_FUZZ_EXAMPLES").unwrap_or_else(|| EXAMPLES.to_owned())]);
    command.args(["--seed", &chosen("ROTOLESS_FUZZ_SEED").unwrap_or_else(|| "1".to_owned())]);
    if chosen("ROTOLESS_FUZZ_EXAMPLES").is_none() {
        // The same handlers under their old names.
        command.args(["--exclude-tag", "Legacy"]);
    }
    command.env("SCHEMATHESIS_HOOKS", settings.join("hooks.py"));
    command.env("ROTOLESS_API_KEY", &client.key).env("ROTOLESS_ADMIN_TOKEN", ADMIN_TOKEN);
    command.env("ROTOLESS_VIDEO_URL", video_url).env("PYTHONDONTWRITEBYTECODE", "1").env("COLUMNS", "120");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
fn chosen(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the program said when it ended by itself. One that does not is ended, and what it said until then is shown.
async fn within(limit: Duration, mut command: Command) -> Output {
    let child = command.spawn().unwrap();
    let id = i32::try_from(child.id()).unwrap();
    let mut ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    match tokio::time::timeout(limit, &mut ended).await {
        Ok(output) => output.unwrap(),
        Err(_) => {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL).unwrap();
            let output = ended.await.unwrap();
            panic!("not done within {limit:?}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}
