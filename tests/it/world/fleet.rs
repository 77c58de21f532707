//! Workers of a world that the test itself starts, each behind a port of its own of the proxy.
//!
//! Owns: their processes, started again whenever one dies; their directories and logs. Does not own: what goes wrong
//! (`proxy`). Invariant: no worker outlives the test, and none leaves a process or a file behind at an orderly end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;

use super::proxy::{Port, Proxy, Upstream};
use super::{QUEUE_EMPTIES, World, oracle, processes, program};

/// Ours must be longer than a worker's drain.
const STOP: Duration = Duration::from_secs(45);
/// How soon a dead worker is followed by another one.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of a service whose dead workers are noticed as soon as a worker allows.
pub(crate) fn short_leases() -> Vec<String> {
    ["--lease-seconds", "6"].map(str::to_owned).into()
}

/// Some workers and the proxy before them.
pub(crate) struct Fleet {
    pub(crate) proxy: Proxy,
    workers: Vec<Arc<Worker>>,
    supervisor: Option<JoinHandle<()>>,
}

/// One place for a worker: whoever works there, one after the other.
struct Worker {
    port: Port,
    command: Mutex<Command>,
    /// None: nobody is to work here any more.
    child: Mutex<Option<Child>>,
    work_dir: PathBuf,
}

impl Worker {
    fn spawn(&self) -> Child {
        let child = self.command.lock().unwrap().spawn().unwrap();
        self.port.hits(i32::try_from(child.id()).unwrap());
        child
    }

    /// Puts another one in the place of a dead one.
    fn look(&self) {
        let mut child = self.child.lock().unwrap();
        let ended = child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
        if ended {
            *child = Some(self.spawn());
        }
    }

    fn process(&self) -> i32 {
        i32::try_from(self.child.lock().unwrap().as_ref().expect("somebody works here").id()).unwrap()
    }
}

impl Fleet {
    /// A proxy before a world's service, and nobody who works yet.
    pub(crate) fn of(world: &World) -> Self {
        let fleet = Self { proxy: Proxy::new(), workers: Vec::new(), supervisor: None };
        fleet.follow(world);
        fleet
    }

    /// Leads everything to the service as it runs now: after a restart its ports are others.
    pub(crate) fn follow(&self, world: &World) {
        let environment = world.worker_environment();
        let host = |name: &str| environment[name].trim_start_matches("http://").trim_end_matches('/').to_owned();
        self.proxy.lead_to(Upstream {
            service: host("CONTROL_URL"),
            queue: host("AWS_ENDPOINT_URL_SQS"),
            secret: environment["AWS_SECRET_ACCESS_KEY"].clone(),
        });
    }

    /// One more worker. Gives its port's number.
    pub(crate) async fn hire(&mut self, world: &World) -> usize {
        self.hire_with(world, &[], |_| {}).await
    }

    /// One more worker, whose program is run by others (`wrap`) and whose environment is changed.
    pub(crate) async fn hire_with(&mut self, world: &World, wrap: &[&str], change: impl FnOnce(&mut Command)) -> usize {
        let number = self.workers.len();
        let port = self.proxy.port(number).await;
        let work_dir = world.scratch().join(format!("work.{number}"));
        std::fs::create_dir_all(&work_dir).unwrap();
        let log = world.scratch().join(format!("worker.{number}.log"));
        let mut command = command(world, wrap, &work_dir, &log);
        let environment = world.worker_environment();
        let queue =
            environment["QUEUE_URL"].replace(&self.queue_host(&environment["AWS_ENDPOINT_URL_SQS"]), &port.address);
        command.env("QUEUE_URL", queue).env("WORKER_ID", format!("worker-{number}"));
        for name in ["CONTROL_URL", "AWS_ENDPOINT_URL_SQS"] {
            command.env(name, format!("http://{}", port.address));
        }
        change(&mut command);
        world.keep_log(log);
        let worker = Worker { port, command: Mutex::new(command), child: Mutex::default(), work_dir };
        *worker.child.lock().unwrap() = Some(worker.spawn());
        self.workers.push(Arc::new(worker));
        self.supervise();
        number
    }

    fn queue_host(&self, endpoint: &str) -> String {
        endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    fn supervise(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.abort();
        }
        let workers = self.workers.clone();
        self.supervisor = Some(tokio::spawn(async move {
            loop {
                workers.iter().for_each(|worker| worker.look());
                tokio::time::sleep(LOOK).await;
            }
        }));
    }

    pub(crate) fn process(&self, worker: usize) -> i32 {
        self.workers[worker].process()
    }

    pub(crate) fn signal(&self, worker: usize, signal: Signal) {
        kill(Pid::from_raw(self.process(worker)), signal).unwrap();
    }

    /// Sends a worker home: it drains, leaves nothing behind, and nobody follows it.
    pub(crate) async fn dismiss(&self, worker: usize) {
        let worker = &self.workers[worker];
        let Some(mut child) = worker.child.lock().unwrap().take() else { return };
        let id = i32::try_from(child.id()).unwrap();
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > STOP {
                let _ = child.kill();
                panic!("worker {id} did not drain");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(status.success(), "worker {id} ended with {status}");
        let left = processes::of_session(id);
        assert!(left.is_empty(), "I-9: a worker left processes: {left:?}");
        check_directory(&worker.work_dir);
    }

    /// Waits until nothing is queued, then sends all home.
    pub(crate) async fn end(self, world: &World) {
        oracle::queue_empties(world, QUEUE_EMPTIES).await;
        for worker in 0..self.workers.len() {
            self.dismiss(worker).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(supervisor) = &self.supervisor {
            supervisor.abort();
        }
        for worker in &self.workers {
            let Ok(mut child) = worker.child.lock() else { continue };
            if let Some(child) = child.as_mut() {
                let session = i32::try_from(child.id()).unwrap_or(0);
                let _ = child.kill();
                let _ = child.wait();
                for process in processes::of_session(session) {
                    let _ = kill(Pid::from_raw(process.id), Signal::SIGKILL);
                }
            }
        }
    }
}

/// A worker as `worker.env` has it, the leader of a session of its own.
pub(crate) fn command(world: &World, wrap: &[&str], work_dir: &Path, log: &Path) -> Command {
    command_with(&world.worker_environment(), world.log_level(), wrap, work_dir, log)
}

/// The same of an environment that was read before.
pub(crate) fn command_with(
    environment: &BTreeMap<String, String>,
    log_level: &str,
    wrap: &[&str],
    work_dir: &Path,
    log: &Path,
) -> Command {
    let mut command = Command::new("setsid");
    // Behind the wrapping: who takes another user's rights loses what the kernel was asked for.
    command.args(wrap).args(["setpriv", "--pdeathsig", "KILL"]).arg(program()).arg("gpu-handler");
    command.env_clear().envs(environment).env("WORK_DIR", work_dir).env("RUST_LOG", log_level);
    command.env("PATH", path());
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}

#[expect(clippy::disallowed_methods, reason = "the worker's tools are where ours are")]
pub(crate) fn path() -> String {
    std::env::var("PATH").unwrap()
}

/// I-9.
fn check_directory(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "lock"), "I-9: a worker left {left:?}");
}
