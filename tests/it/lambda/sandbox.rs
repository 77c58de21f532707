//! An execution environment: one process of a function, as Lambda starts, freezes, thaws and kills it.
//!
//! Owns: the process and its log. Does not own: its environment (`template`), what it is asked (`gateway`, `queue`).
//! Invariants: between two invocations the process is stopped where the function says so; after its deadline, and when the
//! test ends, it is dead, with all that it started.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use super::runtime_api::{Outcome, RuntimeApi};
use crate::aws_conformance::stack::{SECRET_KEY, config};
use crate::world::{processes, program};

/// A debug build on a busy machine. Lambda allows 10 s.
const INIT: Duration = Duration::from_secs(60);

/// A function as the template describes it.
pub(crate) struct Function {
    /// Its logical id.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    /// The same of another version, which serves every other invocation in an environment of its own.
    pub(crate) other: Option<PathBuf>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) memory: u64,
    pub(crate) time: Duration,
    /// Stopped whenever it has nothing to do.
    pub(crate) freezes: bool,
    /// Where it logs to.
    pub(crate) log: PathBuf,
    sandboxes: [Mutex<Option<Sandbox>>; 2],
    invoked: AtomicU64,
    started: AtomicU64,
}

/// A program of ours, beside this one in the target directory.
pub(crate) fn binary(name: &str) -> PathBuf {
    let binary = program().with_file_name(name);
    assert!(binary.is_file(), "{} is missing: run `cargo build --workspace --bins`", binary.display());
    binary
}

impl Function {
    pub(crate) fn new(
        name: &'static str,
        program: PathBuf,
        environment: BTreeMap<String, String>,
        memory: u64,
        time: Duration,
        log: PathBuf,
    ) -> Self {
        let (sandboxes, invoked, started) = <_>::default();
        Self { name, program, other: None, environment, memory, time, freezes: true, log, sandboxes, invoked, started }
    }

    /// One invocation: in the environment that there is, or in a new one.
    pub(crate) async fn invoke(&self, event: &Value) -> Outcome {
        self.invoke_for(event, self.time, self.time).await
    }

    /// The same with another time limit: the one that it is told, and the one after which it is killed.
    pub(crate) async fn invoke_for(&self, event: &Value, told: Duration, time: Duration) -> Outcome {
        let turn = self.invoked.fetch_add(1, Ordering::SeqCst);
        let (place, program) = match &self.other {
            Some(other) if turn % 2 == 1 => (&self.sandboxes[1], other),
            Some(_) | None => (&self.sandboxes[0], &self.program),
        };
        let mut place = place.lock().await;
        if place.as_mut().is_none_or(Sandbox::has_ended) {
            *place = None;
            let sandbox = self.start_program(program).await;
            sandbox
                .ready(INIT)
                .await
                .unwrap_or_else(|why| panic!("{} does not start: {why}\n{}", self.name, self.log()));
            *place = Some(sandbox);
        }
        let sandbox = place.as_mut().expect("it was just started");
        let outcome = sandbox.invoke(event, told, time, self.freezes).await;
        if matches!(outcome, Outcome::Ended | Outcome::TimedOut) {
            *place = None;
        }
        outcome
    }

    /// A new environment, which has not said yet that it is ready.
    pub(crate) async fn start(&self) -> Sandbox {
        self.start_program(&self.program).await
    }

    async fn start_program(&self, program: &Path) -> Sandbox {
        self.started.fetch_add(1, Ordering::SeqCst);
        Sandbox::start(self, program).await
    }

    /// Environments so far: cold starts.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    /// The process of the environment that there is.
    pub(crate) async fn process(&self) -> Option<i32> {
        self.sandboxes[0].lock().await.as_ref().map(|sandbox| sandbox.id)
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

pub(crate) struct Sandbox {
    api: RuntimeApi,
    asked: watch::Receiver<u64>,
    child: Child,
    id: i32,
    is_frozen: bool,
}

impl Sandbox {
    async fn start(function: &Function, program: &Path) -> Self {
        let api = RuntimeApi::start(function.name).await;
        let asked = api.asked();
        let log = File::options().create(true).append(true).open(&function.log).unwrap();
        let mut command = Command::new("setsid");
        command.args(["setpriv", "--pdeathsig", "KILL"]).arg(program);
        command.env_clear().envs(given(function, program, &api.address)).envs(&function.environment);
        command.current_dir(program.parent().unwrap_or(Path::new("/")));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let id = i32::try_from(child.id()).unwrap();
        Self { api, asked, child, id, is_frozen: false }
    }

    /// Waits until the process asks for its first invocation; an error says why it does not.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), String> {
        let mut asked = self.asked.clone();
        let deadline = Instant::now() + limit;
        loop {
            if *asked.borrow_and_update() > 0 {
                return Ok(());
            }
            if let Some(error) = self.api.init_error() {
                return Err(format!("init/error: {error}"));
            }
            if !is_running(self.id) {
                return Err("the process ended".to_owned());
            }
            if Instant::now() >= deadline {
                return Err(format!("not ready after {limit:?}"));
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), asked.changed()).await;
        }
    }

    /// How the process ended, waiting for it.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        processes::eventually("the end of the function", limit, || child.try_wait().unwrap()).await
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    async fn invoke(&mut self, event: &Value, told: Duration, time: Duration, freezes: bool) -> Outcome {
        self.thaw();
        let asked = *self.asked.borrow();
        let id = invocation_id();
        let mut outcome = self.api.leave(event, &id, told);
        let deadline = Instant::now() + time;
        let outcome = loop {
            match tokio::time::timeout(Duration::from_millis(20), &mut outcome).await {
                Ok(Ok(outcome)) => break outcome,
                Ok(Err(_)) => break Outcome::Ended,
                Err(_) if self.has_ended() => break Outcome::Ended,
                Err(_) if Instant::now() >= deadline => break Outcome::TimedOut,
                Err(_) => {}
            }
        };
        match outcome {
            Outcome::Ended | Outcome::TimedOut => self.kill(),
            Outcome::Answered(_) | Outcome::Failed(_) if freezes => self.freeze_after(asked).await,
            Outcome::Answered(_) | Outcome::Failed(_) => {}
        }
        outcome
    }

    /// Once the process has asked for the next invocation, or has ended of its own accord.
    async fn freeze_after(&mut self, asked: u64) {
        let mut next = self.asked.clone();
        loop {
            if *next.borrow_and_update() > asked {
                let _ = kill(Pid::from_raw(-self.id), Signal::SIGSTOP);
                self.is_frozen = true;
                return;
            }
            if self.has_ended() {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), next.changed()).await;
        }
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.is_frozen) {
            let _ = kill(Pid::from_raw(-self.id), Signal::SIGCONT);
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for process in processes::of_session(self.id) {
            let _ = kill(Pid::from_raw(process.id), Signal::SIGKILL);
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_running(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// What Lambda gives every function of its own accord, and nothing else: no HOME, no TMPDIR.
fn given(function: &Function, program: &Path, api: &str) -> BTreeMap<&'static str, String> {
    let root = program.parent().unwrap_or(Path::new("/")).display().to_string();
    BTreeMap::from([
        ("AWS_LAMBDA_RUNTIME_API", api.to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", format!("rotoless-{}", function.name)),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/rotoless-{}", function.name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef".to_owned()),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
        ("AWS_LAMBDA_LOG_LEVEL", "INFO".to_owned()),
        ("AWS_REGION", super::REGION.to_owned()),
        ("AWS_DEFAULT_REGION", super::REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", config(Path::new("/")).access_key),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
        ("AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1:2000".to_owned()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        ("LAMBDA_TASK_ROOT", root),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin".to_owned()),
        ("TZ", ":UTC".to_owned()),
        ("_HANDLER", "bootstrap".to_owned()),
    ])
}

/// In the form of Lambda's: a UUID.
pub(crate) fn invocation_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::SeqCst);
    format!("8476a536-e9f4-11e8-{:04x}-{count:012x}", std::process::id() & 0xffff)
}
