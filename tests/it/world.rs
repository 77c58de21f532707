//! A world: one `rotoless up` on a data directory of its own, driven from outside as its clients drive it.
//!
//! Owns: starting, killing, stopping and restarting the service; the end of a test. Does not own: what is asked of the
//! service (`client`), what must hold at the end (`oracle`), clips (`media`), models (`models`).
//! Invariants: the oracle cannot be forgotten, because a world only exists inside [`in_a_world`]; no process outlives
//! the test, because the service leads a session of its own and dies with the thread that started it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod fleet;
pub(crate) mod media;
pub(crate) mod models;
pub(crate) mod oracle;
pub(crate) mod processes;
pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use self::client::{Client, Door};
use self::disk::Disk;

pub(crate) const ADMIN_TOKEN: &str = "operator-of-the-tests";
/// A debug build on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Ours must be longer than the drains of worker and port together.
const STOP: Duration = Duration::from_secs(60);
/// A message that a killed worker had comes back after 30 s.
const QUEUE_EMPTIES: Duration = Duration::from_secs(75);

/// How a world is made, and what the oracle lets pass.
pub(crate) struct Options {
    /// The models directory; without one, a fresh one with the free model in the role `light`.
    pub(crate) models: Option<PathBuf>,
    pub(crate) no_worker: bool,
    /// Pieces of text, one of which every line of level ERROR must contain.
    pub(crate) expected_errors: &'static [&'static str],
    /// Messages nobody was there to take.
    pub(crate) messages_left: bool,
    /// Further arguments of `rotoless up`.
    pub(crate) args: Vec<String>,
    /// Further variables of its environment.
    pub(crate) env: Vec<(String, String)>,
    /// The data directory lies on a disk of its own, which `mount` makes of this.
    pub(crate) disk: Option<&'static str>,
    /// What is logged, as `RUST_LOG` has it.
    pub(crate) log: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            models: None,
            no_worker: false,
            expected_errors: &[],
            messages_left: false,
            args: Vec::new(),
            env: Vec::new(),
            disk: None,
            log: "info",
        }
    }
}

/// The service and everything around it.
pub(crate) struct World {
    options: Options,
    models: PathBuf,
    dir: TempDir,
    disk: Option<Disk>,
    service: Option<Child>,
    door: Door,
    starts: u32,
    /// Must not be found in any log.
    secrets: Vec<String>,
    /// Logs of workers that the test started itself.
    logs: Mutex<Vec<PathBuf>>,
}

/// Runs a test in a world, then stops the service and asks the oracle.
pub(crate) async fn in_a_world(options: Options, test: impl AsyncFnOnce(&mut World)) {
    let mut world = World::start(options).await;
    test(&mut world).await;
    world.finish().await;
}

/// The program under test: beside this one, in the target directory.
pub(crate) fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here.parent().and_then(Path::parent).unwrap().join("rotoless");
    assert!(program.is_file(), "{} is missing: run `make build`", program.display());
    program
}

impl World {
    async fn start(options: Options) -> Self {
        // Refused when another test of this process did so before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let models = options.models.clone().unwrap_or_else(|| {
            let models = dir.path().join("models");
            models::install_free_model(&models);
            models
        });
        let door = Door { url: Arc::new(Mutex::new(String::new())), http: reqwest::Client::new() };
        let secrets = vec![ADMIN_TOKEN.to_owned()];
        let disk = options.disk.map(|size| Disk::new(&dir.path().join("data"), size));
        let mut world =
            Self { options, models, dir, disk, service: None, door, starts: 0, secrets, logs: Mutex::default() };
        world.up().await;
        world
    }

    /// Starts the service on the world's data directory: the first time, or again after a kill or a stop.
    pub(crate) async fn up(&mut self) {
        assert!(self.service.is_none(), "the service is up");
        self.starts += 1;
        let (out, log) = (self.dir.path().join(format!("out.{}", self.starts)), self.log_path(self.starts));
        let mut command = self.command();
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&log).unwrap());
        self.service = Some(command.spawn().unwrap());
        let deadline = Instant::now() + START;
        let said = loop {
            let said = std::fs::read_to_string(&out).unwrap();
            if said.contains("Try it") {
                break said;
            }
            let ended = self.service.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "did not start ({ended:?}): {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        *self.door.url.lock().unwrap() = word_after(&said, "url").to_owned();
        for secret in self.secrets_file().as_object().unwrap().values().filter_map(|value| value.as_str()) {
            // The access key names, it does not open.
            if !secret.starts_with("RTL") && !self.secrets.iter().any(|known| known == secret) {
                self.secrets.push(secret.to_owned());
            }
        }
    }

    /// `rotoless up`, as the leader of a session of its own.
    fn command(&self) -> Command {
        // A session finds every process again, whichever groups they form; and a killed test kills its service.
        let mut command = Command::new("setsid");
        if let Some(disk) = &self.disk {
            command.args(disk.enter());
        }
        command.args(["setpriv", "--pdeathsig", "KILL"]).arg(program()).arg("up");
        command.args(["--port", "0", "--admin-token", ADMIN_TOKEN]);
        command.arg("--data-dir").arg(self.data_dir()).arg("--models").arg(&self.models);
        if self.options.no_worker {
            command.arg("--no-worker");
        }
        command.args(&self.options.args);
        command.envs(self.options.env.iter().map(|(name, value)| (name, value)));
        command.env("RUST_LOG", self.options.log).stdin(Stdio::null());
        command
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the workers' models are.
    pub(crate) fn models(&self) -> &Path {
        &self.models
    }

    /// The data directory as this process sees it.
    pub(crate) fn files(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.data_dir(), Disk::files)
    }

    /// A place for the test's own files.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// What `rotoless up` called the first key.
    pub(crate) fn first_client(&self) -> Client {
        let key = self.secrets_file()["api_key"].as_str().unwrap().to_owned();
        Client { door: self.door.clone(), key }
    }

    /// A new client with so many credits, made by the operator.
    pub(crate) async fn client(&mut self, name: &str, credits: f64) -> Client {
        self.client_with_secret(name, credits).await.0
    }

    /// The same, with the secret that signs the client's webhooks.
    pub(crate) async fn client_with_secret(&mut self, name: &str, credits: f64) -> (Client, String) {
        let body = json!({"client_id": name, "credits": credits});
        let made = self.door.admin("/v1/admin/keys", &body).await.ok();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        let (key, secret) = (text("api_key"), text("webhook_secret"));
        self.secrets.extend([key.clone(), secret.clone()]);
        (Client { door: self.door.clone(), key }, secret)
    }

    pub(crate) fn session(&self) -> i32 {
        i32::try_from(self.service.as_ref().expect("the service is up").id()).unwrap()
    }

    /// The worker's process, once there is one that can work.
    pub(crate) async fn worker(&self) -> i32 {
        processes::eventually("a worker", START, || processes::worker_of(self.session())).await
    }

    /// To the service alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.session()), signal).unwrap();
    }

    /// The queue as workers reach it: a client and its URL.
    pub(crate) fn queue(&self) -> (aws_sdk_sqs::Client, String) {
        oracle::queue(self)
    }

    /// Waits until nobody has a message, and none is left.
    pub(crate) async fn queue_empties(&self) {
        oracle::queue_empties(self, QUEUE_EMPTIES).await;
    }

    /// `kill -9` of the service alone: whatever else there is must vanish by itself within `limit`.
    pub(crate) async fn kill_service(&mut self, limit: Duration) {
        self.service.as_mut().unwrap().kill().unwrap();
        self.died(limit).await;
    }

    /// The service was killed by somebody else.
    pub(crate) async fn died(&mut self, limit: Duration) {
        let session = self.session();
        let mut service = self.service.take().unwrap();
        let status = processes::eventually("the end of the service", limit, || service.try_wait().unwrap()).await;
        assert_eq!(status.signal(), Some(9), "{}", self.logs());
        processes::eventually("the end of every process", limit, || {
            processes::of_session(session).is_empty().then_some(())
        })
        .await;
    }

    /// Ctrl-C. Gives the exit status and how long it took.
    pub(crate) async fn interrupt(&mut self) -> (ExitStatus, Duration) {
        let session = self.session();
        let began = Instant::now();
        kill(Pid::from_raw(session), Signal::SIGINT).unwrap();
        let mut service = self.service.take().unwrap();
        let status = loop {
            if let Some(status) = service.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > STOP {
                self.service = Some(service);
                panic!("did not stop within {STOP:?}: {}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let left = processes::of_session(session);
        assert!(left.is_empty(), "processes left after a stop: {left:?}");
        (status, began.elapsed())
    }

    /// A second service on the same data directory: its exit status and what it said on stderr.
    pub(crate) fn second_service(&self) -> (ExitStatus, String) {
        let output = self.command().output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn log_path(&self, start: u32) -> PathBuf {
        self.dir.path().join(format!("log.{start}"))
    }

    /// Everything that the service and its workers logged so far, over all starts.
    pub(crate) fn logs(&self) -> String {
        let services = (1..=self.starts).map(|start| self.log_path(start));
        let workers = self.logs.lock().unwrap().clone();
        let read = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        services.chain(workers).map(read).collect()
    }

    /// Must not be found in any log, either.
    pub(crate) fn keep_secret(&mut self, secret: String) {
        self.secrets.push(secret);
    }

    /// What workers log.
    pub(crate) fn log_level(&self) -> &'static str {
        self.options.log
    }

    /// Judges this file, too, with the logs.
    pub(crate) fn keep_log(&self, log: PathBuf) {
        self.logs.lock().unwrap().push(log);
    }

    /// What a further worker has to know: `worker.env` of the data directory.
    pub(crate) fn worker_environment(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(self.files().join("worker.env")).unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('\'').to_owned())
        };
        text.lines().map(pair).collect()
    }

    fn secrets_file(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.files().join("secrets.json")).unwrap()).unwrap()
    }

    async fn finish(mut self) {
        if self.service.is_none() {
            self.up().await;
        }
        if !self.options.no_worker {
            oracle::queue_empties(&self, QUEUE_EMPTIES).await;
        }
        let (status, _) = self.interrupt().await;
        assert!(status.success(), "a stop ended with {status}: {}", self.logs());
        if let Some(disk) = self.disk.take() {
            disk.give_back();
        }
        oracle::judge(&self).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(mut service) = self.service.take() else { return };
        // The test failed: its service goes at once, and its log helps to see why.
        let session = i32::try_from(service.id()).unwrap_or(0);
        if let Ok(Some(status)) = service.try_wait() {
            eprintln!("---- the service had ended by itself: {status}");
        }
        let _ = service.kill();
        let _ = service.wait();
        for process in processes::of_session(session) {
            let _ = kill(Pid::from_raw(process.id), Signal::SIGKILL);
        }
        eprintln!("---- log of the service\n{}", self.logs());
    }
}

fn word_after<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(label)).expect("the line is there");
    line.trim()
}
