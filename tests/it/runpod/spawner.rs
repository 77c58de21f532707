//! The hosts of an endpoint: real worker processes, started, frozen, thawed and ended as the endpoint orders.
//!
//! Owns: the processes, their environment as RunPod gives it, their directories and logs; that nothing of them is left.
//! Does not own: when there is a worker (`platform`), what is said to it (`shell`).
//! Invariants: whatever a worker started ends with it, as it does with a container; no process outlives the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;

use super::platform::{Order, WorkerId};
use super::shell::{API_KEY, ENDPOINT, Endpoint, WORKER_KEY};
use crate::world::{World, fleet, processes};

/// Between two looks at time and processes.
const TURN: Duration = Duration::from_millis(20);
/// Between SIGTERM and SIGKILL. Longer than an abandoning worker takes.
const GRACE: Duration = Duration::from_secs(30);

/// All hosts of an endpoint.
pub(crate) struct Hosts {
    pub(crate) endpoint: Endpoint,
    inner: Arc<Mutex<Inner>>,
    turns: JoinHandle<()>,
}

struct Inner {
    environment: BTreeMap<String, String>,
    log_level: &'static str,
    scratch: PathBuf,
    workers: BTreeMap<WorkerId, Host>,
    starts: u32,
    logs: Vec<PathBuf>,
    wrong: Vec<String>,
}

struct Host {
    child: Child,
    work_dir: PathBuf,
    /// It was asked to end: when it is killed if it does not.
    ends: Option<Instant>,
    killed: bool,
}

impl Host {
    fn session(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// To everything that the container holds.
    fn signal_all(&self, signal: Signal) {
        for process in processes::of_session(self.session()) {
            let _ = kill(Pid::from_raw(process.id), signal);
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        self.signal_all(Signal::SIGKILL);
        let _ = self.child.kill();
    }
}

impl Hosts {
    /// Hosts for workers of a world. From now on time passes at the endpoint.
    pub(crate) fn of(world: &mut World, endpoint: Endpoint) -> Self {
        for secret in [API_KEY, WORKER_KEY] {
            world.keep_secret(secret.to_owned());
        }
        let mut environment = world.worker_environment();
        environment.extend(environment_of(&endpoint));
        let inner = Arc::new(Mutex::new(Inner {
            environment,
            log_level: world.log_level(),
            scratch: world.scratch().to_owned(),
            workers: BTreeMap::new(),
            starts: 0,
            logs: Vec::new(),
            wrong: Vec::new(),
        }));
        let turns = tokio::spawn({
            let (endpoint, inner) = (endpoint.clone(), Arc::clone(&inner));
            async move {
                loop {
                    inner.lock().unwrap().turn(&endpoint);
                    tokio::time::sleep(TURN).await;
                }
            }
        });
        Self { endpoint, inner, turns }
    }

    fn host<T>(&self, worker: WorkerId, act: impl FnOnce(&mut Host) -> T) -> T {
        act(self.inner.lock().unwrap().workers.get_mut(&worker).expect("the worker has a process"))
    }

    /// A variable of the environment of workers that start from now on.
    pub(crate) fn set(&self, name: &str, value: &str) {
        self.inner.lock().unwrap().environment.insert(name.to_owned(), value.to_owned());
    }

    /// Processes that were started.
    pub(crate) fn starts(&self) -> u32 {
        self.inner.lock().unwrap().starts
    }

    pub(crate) fn process(&self, worker: WorkerId) -> i32 {
        self.host(worker, |host| host.session())
    }

    /// To a worker's process and all it started: what happens to a host, and the endpoint is not told.
    pub(crate) fn signal(&self, worker: WorkerId, signal: Signal) {
        self.host(worker, |host| {
            // A container that is killed leaves nothing to look at.
            host.killed |= signal == Signal::SIGKILL;
            host.signal_all(signal);
        });
    }

    /// SIGTERM to a worker, as the endpoint does before it takes the host away.
    pub(crate) fn take_away(&self, worker: WorkerId) {
        self.endpoint.with(|platform, _| platform.take_away(worker));
    }

    /// The one worker that has work now, once there is one.
    pub(crate) async fn at_work(&self, limit: Duration) -> WorkerId {
        processes::eventually("a worker at work", limit, || {
            self.endpoint.with(|platform, _| platform.at_work().into_keys().next())
        })
        .await
    }

    /// Waits until the endpoint is paid for nobody.
    pub(crate) async fn nobody_runs(&self, limit: Duration) {
        processes::eventually("the end of the last worker", limit, || {
            self.endpoint.with(|platform, _| platform.up().is_empty().then_some(()))
        })
        .await;
    }

    /// I-8: waits until nobody runs, ends those who stand by, and judges what was seen.
    pub(crate) async fn end(&self, world: &World, limit: Duration) {
        self.nobody_runs(limit).await;
        let inner = &mut *self.inner.lock().unwrap();
        inner.workers.values_mut().for_each(Host::kill);
        for host in inner.workers.values_mut() {
            host.child.wait().unwrap();
        }
        inner.logs.iter().for_each(|log| world.keep_log(log.clone()));
        let mut wrong = self.endpoint.with(|platform, _| platform.verdict());
        wrong.append(&mut inner.wrong);
        assert!(wrong.is_empty(), "I-8:\n{}", wrong.join("\n"));
        assert!(self.endpoint.with(|platform, _| platform.witness.pings) > 0, "nobody ever pinged");
        inner.workers.clear();
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.turns.abort();
        let Ok(mut inner) = self.inner.lock() else { return };
        for host in inner.workers.values_mut() {
            host.kill();
            let _ = host.child.wait();
        }
        if std::thread::panicking() {
            for log in &inner.logs {
                eprintln!("---- {}\n{}", log.display(), fs::read_to_string(log).unwrap_or_default());
            }
        }
    }
}

impl Inner {
    fn turn(&mut self, endpoint: &Endpoint) {
        for order in endpoint.tick() {
            self.carry_out(order);
        }
        let now = Instant::now();
        let mut ended = Vec::new();
        for (id, host) in &mut self.workers {
            if host.ends.is_some_and(|ends| ends <= now) && !host.killed {
                self.wrong.push(format!("{id} did not end within {GRACE:?}"));
                host.kill();
            }
            if let Some(status) = host.child.try_wait().unwrap() {
                ended.push((*id, status));
            }
        }
        for (id, status) in ended {
            let host = self.workers.remove(&id).expect("it has just ended");
            host.signal_all(Signal::SIGKILL);
            if host.ends.is_some() && !host.killed {
                if !status.success() {
                    self.wrong.push(format!("{id} was asked to end and ended with {status}"));
                }
                self.wrong.extend(left_in(&host.work_dir).map(|left| format!("I-9: {id} left {left}")));
            }
            endpoint.with(|platform, now| platform.exited(now, id, status.success()));
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Start(id) => self.start(id),
            Order::Freeze(id) => self.to(id, |host| host.signal_all(Signal::SIGSTOP)),
            Order::Thaw(id) => self.to(id, |host| host.signal_all(Signal::SIGCONT)),
            Order::Terminate(id) => self.to(id, |host| {
                host.ends = Some(Instant::now() + GRACE);
                let _ = kill(Pid::from_raw(host.session()), Signal::SIGTERM);
            }),
            Order::Kill(id) => self.to(id, Host::kill),
        }
    }

    /// Nobody, where the process has just died by itself.
    fn to(&mut self, id: WorkerId, act: impl FnOnce(&mut Host)) {
        if let Some(host) = self.workers.get_mut(&id) {
            act(host);
        }
    }

    /// A container with nothing in it from the one before.
    fn start(&mut self, id: WorkerId) {
        self.starts += 1;
        let work_dir = self.scratch.join(format!("host.{}", self.starts));
        fs::create_dir(&work_dir).unwrap();
        let log = self.scratch.join(format!("{id}.{}.log", self.starts));
        let mut command = fleet::command_with(&self.environment, self.log_level, &[], &work_dir, &log);
        command.env("RUNPOD_POD_ID", id.to_string()).env("WORKER_ID", id.to_string());
        self.logs.push(log);
        let child = command.spawn().unwrap();
        self.workers.insert(id, Host { child, work_dir, ends: None, killed: false });
    }
}

/// What RunPod puts into every worker's environment.
fn environment_of(endpoint: &Endpoint) -> BTreeMap<String, String> {
    let base = endpoint.base();
    [
        ("SESSIONS", "runpod".to_owned()),
        ("RUNPOD_ENDPOINT_ID", ENDPOINT.to_owned()),
        ("RUNPOD_AI_API_KEY", WORKER_KEY.to_owned()),
        ("RUNPOD_WEBHOOK_GET_JOB", format!("{base}/job-take/$ID?gpu=none")),
        ("RUNPOD_WEBHOOK_POST_OUTPUT", format!("{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none")),
        ("RUNPOD_WEBHOOK_POST_STREAM", format!("{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none")),
        ("RUNPOD_WEBHOOK_PING", format!("{base}/ping/$RUNPOD_POD_ID?gpu=none")),
        ("RUNPOD_PING_INTERVAL", "1000".to_owned()),
        // Whether this machine is short of disk is not what is tested.
        ("RUNPOD_MIN_DISK_PERCENT", "1".to_owned()),
        ("THREADS", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn left_in(dir: &Path) -> impl Iterator<Item = String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "lock")
}
