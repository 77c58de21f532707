//! Workers that are attached to a running service by `worker.env`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{JOB, bare, orders, paid};
use crate::world::fleet::Fleet;
use crate::world::proxy::{Exchange, Fault, Moment, Rule};
use crate::world::{in_a_world, program};

/// The one command of the README, in a shell.
const ATTACH: &str = "set -a; . \"$1\"; exec \"$2\" gpu-handler";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_attached_by_one_command_and_takes_the_jobs_that_wait() {
    in_a_world(bare(), async |world| {
        let (client, jobs) = orders(world, 2).await;
        let file = world.data_dir().join("worker.env");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let log = world.scratch().join("attached.log");
        let mut shell = Command::new("setpriv");
        shell.args(["--pdeathsig", "KILL", "sh", "-c", ATTACH, "sh"]).arg(&file).arg(program());
        shell.env("RUST_LOG", "info").stdin(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let mut worker = shell.spawn().unwrap();
        world.keep_log(log);
        for job in &jobs {
            assert_eq!(client.completed(job, JOB).await.attempts, 1);
        }
        paid(&client, 2).await;
        kill(Pid::from_raw(worker.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(worker.wait().unwrap().success());
        let left: Vec<_> =
            std::fs::read_dir(world.data_dir().join("work-2")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
        world.interrupt().await;
        assert!(!file.exists(), "a clean stop leaves no way in behind");
    })
    .await;
}

/// A library that makes a process believe that it is a day later or earlier: `clock_gettime` of the wall, no other.
fn wrong_clock(dir: &Path, seconds: i64) -> PathBuf {
    let source = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
        int clock_gettime(clockid_t clock, struct timespec *now) {\n\
          static int (*real)(clockid_t, struct timespec *);\n\
          if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, \"clock_gettime\");\n\
          int result = real(clock, now);\n\
          if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += (BY);\n\
          return result;\n}\n";
    let (file, library) = (dir.join("clock.c"), dir.join(format!("clock{seconds}.so")));
    std::fs::write(&file, source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", &format!("-DBY={seconds}"), "-o"]).arg(&library).arg(&file).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    library
}

/// G-20, TR-8, TW-13: a whole worker whose host is a day ahead or behind, for its calls and for the queue's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_clock_is_a_day_off_does_its_jobs_at_the_first_attempt() {
    in_a_world(bare(), async |world| {
        let (client, jobs) = orders(world, 2).await;
        let mut fleet = Fleet::of(world);
        // Each gets one.
        let traps: Vec<_> = jobs
            .iter()
            .map(|job| fleet.proxy.set(Rule::once(job, Exchange::Probed, Fault::Hold(Moment::Before))))
            .collect();
        for seconds in [86_400, -86_400] {
            let library = wrong_clock(world.scratch(), seconds);
            fleet
                .hire_with(world, &[], |command| {
                    command.env("LD_PRELOAD", &library);
                })
                .await;
        }
        let mut takers = Vec::new();
        for trap in &traps {
            takers.extend(trap.met().await);
        }
        takers.sort_unstable();
        assert_eq!(takers, [0, 1]);
        traps.iter().for_each(|trap| trap.open());
        for job in &jobs {
            assert_eq!(client.completed(job, JOB).await.attempts, 1);
            let claims = fleet.proxy.answers(job, Exchange::Claim);
            assert_eq!(claims, [Some(401), Some(200)], "one refusal, and a new signature");
        }
        let logs = world.logs();
        assert_eq!(logs.matches("the clock of this host is wrong").count(), 2, "{logs}");
        paid(&client, 2).await;
        fleet.end(world).await;
    })
    .await;
}
