//! The code in docs/API.md runs as it stands there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::library::{python, repository};
use super::receiver::{Receiver, Sent};
use super::webhooks::signature;
use crate::world::client::Client;
use crate::world::media::{self, Clip};
use crate::world::{Options, World, in_a_world};

const JOB: Duration = Duration::from_secs(200);

/// A fenced block of code of the page: its language, its name, the code.
fn blocks() -> Vec<(String, String, String)> {
    let page = std::fs::read_to_string(repository().join("docs/API.md")).unwrap();
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let code: String = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        if let Some((language, name)) = info.split_once(" test=") {
            blocks.push((language.to_owned(), name.to_owned(), code));
        } else if info == "json" {
            serde_json::from_str::<Value>(&code).expect("JSON on the page is JSON");
        } else {
            assert!(info.is_empty(), "a block in {info} that no test runs");
        }
    }
    blocks
}

fn block(language: &str, name: &str) -> String {
    let found: Vec<String> = blocks()
        .into_iter()
        .filter(|(l, n, _)| (l.as_str(), n.as_str()) == (language, name))
        .map(|(.., code)| code)
        .collect();
    assert_eq!(found.len(), 1, "{language} {name}");
    found.into_iter().next().unwrap()
}

/// A directory with one block in it as a program, and `video.mp4` beside it.
struct Desk {
    dir: PathBuf,
    program: Command,
}

impl Desk {
    fn new(world: &World, client: &Client, language: &str, name: &str) -> Self {
        let dir = world.scratch().join(format!("{language}-{name}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::copy(Clip::SMALL.make(&dir), dir.join("video.mp4")).unwrap();
        let (file, interpreter) = match language {
            "bash" => ("snippet.sh", PathBuf::from("bash")),
            "python" => ("snippet.py", python()),
            "js" => ("snippet.mjs", PathBuf::from("node")),
            other => panic!("nothing runs {other}"),
        };
        std::fs::write(dir.join(file), block(language, name)).unwrap();
        let mut program = Command::new(interpreter);
        program.arg(file).current_dir(&dir).stdin(Stdio::null());
        program.env("ROTOLESS_URL", client.door.url("")).env("ROTOLESS_API_KEY", &client.key);
        Self { dir, program }
    }

    /// Runs it to a good end. Gives what it said.
    fn run(&mut self) -> String {
        let Output { status, stdout, stderr } = tokio::task::block_in_place(|| self.program.output()).unwrap();
        assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }
}

#[test]
fn every_block_of_the_page_is_run_by_a_test() {
    let names: Vec<(String, String)> = blocks().into_iter().map(|(language, name, _)| (language, name)).collect();
    let run = [
        ("bash", "quickstart"),
        ("python", "quickstart"),
        ("js", "quickstart"),
        ("bash", "presigned"),
        ("bash", "watch"),
        ("python", "webhook"),
        ("js", "webhook"),
        ("bash", "idempotency"),
    ];
    assert_eq!(names, run.map(|(language, name)| (language.to_owned(), name.to_owned())));
}

fn is_a_matte(webm: &Path, clip: &Path) {
    let difference = media::difference(&media::alpha(webm), &media::truth(clip));
    assert!(difference < 0.01, "the matte is off by {difference}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quick_start_works_in_each_language() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 10.0).await;
        for language in ["bash", "python", "js"] {
            let mut desk = Desk::new(world, &client, language, "quickstart");
            desk.run();
            is_a_matte(&desk.dir.join("result.webm"), &desk.dir.join("video.mp4"));
        }
        assert_eq!(client.milli_credits().await, [10_000 - 3 * 750, 0, 3 * 750]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_keys_and_streams_work_as_the_page_shows_them() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = Desk::new(world, &client, "bash", "presigned").run().trim().to_owned();
        let mut twice = Desk::new(world, &client, "bash", "idempotency");
        twice.program.env("VIDEO_URL", &video_url);
        let said = twice.run();
        let jobs: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((jobs.len(), &jobs[0]["id"]), (2, &jobs[1]["id"]));
        let id = jobs[0]["id"].as_str().unwrap();
        client.completed(id, JOB).await;
        assert_eq!(client.get("/v1/jobs").await.ok()["total"], 1);
        let mut watch = Desk::new(world, &client, "bash", "watch");
        watch.program.env("JOB_ID", id);
        let said = watch.run();
        assert!(said.contains("event: job\n") && said.contains("\"status\":\"completed\""), "{said}");
    })
    .await;
}

/// What a verifier says to a webhook: nothing, or why it refuses it.
fn verdict(verifier: &mut Desk, sent: &Sent, secret: &str) -> Option<String> {
    let given = json!({"body": sent.text(), "headers": sent.headers, "secret": secret});
    std::fs::write(verifier.dir.join("given.json"), given.to_string()).unwrap();
    let said = verifier.run();
    (said.trim() != "genuine").then(|| said.trim().to_owned())
}

const PYTHON_CHECK: &str = r#"
import json, requests, snippet
given = json.load(open("given.json"))
headers = requests.structures.CaseInsensitiveDict(given["headers"])
try:
    snippet.verify_webhook(given["body"].encode(), headers, given["secret"])
    print("genuine")
except ValueError as refused:
    print(refused)
"#;

const NODE_CHECK: &str = r"
import { readFileSync } from 'node:fs';
import { verifyWebhook } from './snippet.mjs';
const given = JSON.parse(readFileSync('given.json'));
try {
  verifyWebhook(Buffer.from(given.body), given.headers, given.secret);
  console.log('genuine');
} catch (refused) {
  console.log(refused.message);
}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_verifiers_take_real_webhooks_and_nothing_else() {
    let receiver = Receiver::start().await;
    let options = Options { args: receiver.allowed(), ..Options::default() };
    in_a_world(options, async |world| {
        let (client, secret) = world.client_with_secret("acme", 10.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let order = json!({"video_url": video_url, "model": "light", "webhook_url": receiver.url("/hook"),
            "metadata": {"title": "Füße — 足 🎬"}});
        client.order_with(order).await;
        let came = receiver.wait("/hook", 2).await;
        for (language, check, name) in [("python", PYTHON_CHECK, "check.py"), ("js", NODE_CHECK, "check.mjs")] {
            let mut verifier = Desk::new(world, &client, language, "webhook");
            std::fs::write(verifier.dir.join(name), check).unwrap();
            let mut program = Command::new(verifier.program.get_program());
            program.arg(name).current_dir(&verifier.dir).env("PYTHONDONTWRITEBYTECODE", "1");
            verifier.program = program;
            for sent in &came {
                assert_eq!(verdict(&mut verifier, sent, &secret), None, "{language}");
            }
            for (forged, why) in forgeries(&came[0], &secret) {
                assert_eq!(verdict(&mut verifier, &forged, &secret).as_deref(), Some(why), "{language}: {forged:#?}");
            }
            let other = verdict(&mut verifier, &came[0], "whsec_other");
            assert_eq!(other.as_deref(), Some("the signature does not match"), "{language}");
        }
    })
    .await;
}

/// What somebody else could make of a genuine webhook, and what it is refused for.
fn forgeries(genuine: &Sent, secret: &str) -> Vec<(Sent, &'static str)> {
    let with = |name: &str, value: &str| {
        let mut sent = genuine.clone();
        sent.headers.insert(name.to_owned(), value.to_owned());
        sent
    };
    let mut tampered = genuine.clone();
    tampered.body = genuine.text().replace("job.started", "job.completed").into_bytes();
    if tampered.body == genuine.body {
        tampered.body.push(b' ');
    }
    let given = &genuine.headers["x-webhook-signature"];
    // Sent again as it was, an hour later; and signed with the right secret, but long ago.
    let hour_ago = humantime(SystemTime::now() - Duration::from_secs(3600));
    let mut old = with("x-webhook-timestamp", &hour_ago);
    old.headers.insert("x-webhook-signature".to_owned(), signature(secret, &hour_ago, &genuine.body));
    vec![
        (tampered, "the signature does not match"),
        (with("x-webhook-timestamp", &humantime(SystemTime::now())), "the signature does not match"),
        (with("x-webhook-signature", &given[..given.len() - 1]), "the signature does not match"),
        (with("x-webhook-signature", &given.to_uppercase()), "the signature does not match"),
        (with("x-webhook-signature", ""), "the signature does not match"),
        (old, "the timestamp is too old"),
    ]
}

/// RFC 3339, by the machine's own `date`.
fn humantime(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let output =
        Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
