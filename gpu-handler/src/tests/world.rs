//! The world around a worker under test: what it is scripted to do, what happened in it, and the worker itself.
//! Its servers are in [`super::servers`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use rotoless_contract::manifest::Manifest;
use rotoless_contract::queue::QueueMessage;
use rotoless_contract::signature::{report_secret, sha256_hex};
use rotoless_contract::worker::{Refusal, ReportReply, ReportRequest};
use rotoless_contract::{Attempt, Background, JobId, JobStatus, Run};
use secrecy::SecretString;
use tokio::sync::watch;

use super::engine::{Script, ScriptedEngine};
use super::servers;
use crate::clock::Clock;
use crate::connect::Connect;
use crate::net::{self, PlainHttp};
use crate::process::{AskShutdown, Shutdown, WorkDir};
use crate::queue::QueueSettings;
use crate::session::Worker;
use crate::timing::Timing;
use crate::transfer::Transfer;

pub(super) const SOURCE: &[u8] = b"a source of some bytes";
pub(super) const FLEET_KEY: &str = "a fleet key of the tests";
pub(super) const CLAIM_TOKEN: &str = "claim-token";

/// Something that reached a server or the engine.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Receive,
    Claim,
    Download,
    Probe,
    Probed,
    Matte,
    /// The engine was given a background's file, and it is whole.
    Background,
    Heartbeat,
    KeepMatte,
    ReuseMatte,
    StoreSegment(u32),
    Upload,
    Manifest,
    Report(ReportRequest),
    /// The message becomes visible again after so many seconds; extensions are [`Event::Extend`].
    Release(i64),
    Extend,
    Delete,
}

/// A call that can be scripted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Claim,
    Heartbeat,
    Probed,
    Segments,
    Report,
    Download,
    Upload,
    Manifest,
    Extend,
}

/// What happens to one call instead of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twist {
    /// No effect, this status.
    Fail(u16),
    /// No effect, 409.
    Refuse(Refusal),
    /// The effect happens, the answer is lost.
    LoseReply,
    /// The job is no longer wanted.
    Cancel,
    /// The receipt is not valid any more.
    Stale,
    /// More than was announced.
    TooLong,
    /// A byte at a time.
    Drip,
    /// Ends before its end.
    Cut,
    /// The links given so far have ended by now.
    EndLinks,
    /// So has the session of the role that signed them, which S3 says in another way.
    EndSession,
}

/// What happened, in order.
#[derive(Clone)]
pub(super) struct Log(Arc<watch::Sender<Vec<Event>>>);

impl Log {
    pub(super) fn add(&self, event: Event) {
        self.0.send_modify(|events| events.push(event));
    }

    pub(super) fn all(&self) -> Vec<Event> {
        self.0.borrow().clone()
    }
}

/// The part of the world behind a lock.
pub(super) struct Shared {
    pub(super) message: Option<String>,
    pub(super) receipt: u32,
    pub(super) visible_at: Instant,
    pub(super) attempt: Attempt,
    pub(super) report: Option<(ReportRequest, ReportReply)>,
    pub(super) output: Option<Bytes>,
    pub(super) manifest: Option<Bytes>,
    /// What the order says; its file has the source's bytes.
    pub(super) background: Background,
    /// The source is somebody else's, at this URL in place of the store's.
    pub(super) external: Option<String>,
    /// Whether the control plane wants the matte kept, and what came of it.
    pub(super) keeps_matte: bool,
    pub(super) matte: Option<Bytes>,
    /// Of an export: the digest of its matte, which has the source's bytes.
    pub(super) kept_matte: Option<String>,
    /// And that of the source that it was made of.
    pub(super) matte_source: String,
    /// Whether the control plane keeps segments, and those that it has.
    pub(super) segments: bool,
    pub(super) stored_segments: BTreeMap<u32, Bytes>,
    /// The links that the store takes: those of this number.
    pub(super) link: u32,
    /// What the claim says of them.
    pub(super) links_last_seconds: Option<u32>,
    /// Whether the control plane makes fresh ones.
    pub(super) gives_links: bool,
    /// How often it was asked and did; then those before have ended.
    pub(super) links_given: u32,
    /// The number of the last heartbeat.
    pub(super) last_beat: Option<u64>,
    twists: VecDeque<(On, Twist)>,
    pub(super) refused_signatures: u32,
    /// Claims that came when their message was visible again.
    pub(super) late_claims: u32,
    pub(super) lease_seconds: u32,
    pub(super) deadline_seconds: u32,
    /// A change to this many seconds is an extension.
    pub(super) visibility_seconds: i64,
    /// What a report of failure leads to.
    pub(super) reply_to_failure: ReportReply,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) log: Log,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) job: JobId,
    pub(super) origin: String,
}

impl World {
    /// Servers on a port of their own, and one message in the queue.
    pub(super) async fn start() -> Self {
        net::install_tls();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let job = JobId::from_random([7; 16]);
        let shared = Shared {
            message: None,
            receipt: 0,
            visible_at: Instant::now(),
            attempt: Attempt::FIRST,
            report: None,
            output: None,
            manifest: None,
            external: None,
            background: Background::Transparent,
            keeps_matte: false,
            matte: None,
            kept_matte: None,
            matte_source: sha256_hex(SOURCE),
            segments: false,
            stored_segments: BTreeMap::new(),
            link: 0,
            links_last_seconds: None,
            gives_links: true,
            links_given: 0,
            last_beat: None,
            twists: VecDeque::new(),
            refused_signatures: 0,
            late_claims: 0,
            lease_seconds: 60,
            deadline_seconds: 600,
            visibility_seconds: 60,
            reply_to_failure: ReportReply { status: JobStatus::Pending, delete_message: false },
        };
        let log = Log(Arc::new(watch::Sender::new(Vec::new())));
        let world = Self { log, shared: Arc::new(Mutex::new(shared)), job, origin };
        world.enqueue();
        let app = servers::router(world.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        world
    }

    pub(super) fn enqueue(&self) {
        let message = QueueMessage { v: 1, job_id: self.job.clone(), run: Run::FIRST, claim_token: CLAIM_TOKEN.into() };
        self.change(|shared| {
            shared.message = Some(serde_json::to_string(&message).unwrap());
            shared.visible_at = Instant::now();
        });
    }

    pub(super) fn change<T>(&self, how: impl FnOnce(&mut Shared) -> T) -> T {
        how(&mut self.shared.lock().unwrap())
    }

    /// The next call of this kind goes wrong, after those scripted before.
    pub(super) fn twist(&self, on: On, twist: Twist) {
        self.change(|shared| shared.twists.push_back((on, twist)));
    }

    /// What is scripted for this call, if anything; it happens once.
    pub(super) fn twisted(&self, on: On) -> Option<Twist> {
        self.change(|shared| {
            let at = shared.twists.iter().position(|(call, _)| *call == on)?;
            shared.twists.remove(at).map(|(_, twist)| twist)
        })
    }

    /// Twists that nothing ran into: a test that expects them all checks that there are none.
    pub(super) fn twists_left(&self) -> usize {
        self.change(|shared| shared.twists.len())
    }

    /// The events, without those that come and go with time.
    pub(super) fn events(&self) -> Vec<Event> {
        let passing = |event: &Event| matches!(event, Event::Heartbeat | Event::Extend);
        self.log.all().into_iter().filter(|event| !passing(event)).collect()
    }

    pub(super) fn count(&self, event: &Event) -> usize {
        self.log.all().iter().filter(|other| *other == event).count()
    }

    pub(super) fn reports(&self) -> Vec<ReportRequest> {
        let report = |event| if let Event::Report(report) = event { Some(report) } else { None };
        self.log.all().into_iter().filter_map(report).collect()
    }

    /// Waits until the events fulfil a condition.
    pub(super) async fn until(&self, condition: impl Fn(&[Event]) -> bool) {
        let mut events = self.log.0.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(20), events.wait_for(|events| condition(events))).await;
        assert!(waited.is_ok(), "never happened; instead: {:?}", self.log.all());
    }

    pub(super) fn stored_manifest(&self) -> Manifest {
        self.change(|shared| serde_json::from_slice(shared.manifest.as_ref().unwrap()).unwrap())
    }

    pub(super) fn worker(&self, script: Script) -> Served {
        self.worker_with(script, Clock::default(), quick())
    }

    pub(super) fn worker_with(&self, script: Script, clock: Clock, timing: Timing) -> Served {
        let connect = Connect {
            control_url: self.origin.parse().unwrap(),
            queue: QueueSettings {
                url: format!("{}/1/jobs", self.origin),
                region: "us-east-1".to_owned(),
                endpoint: Some(self.origin.clone()),
                credentials: Some(aws_sdk_sqs::config::SharedCredentialsProvider::new(
                    aws_credential_types::Credentials::new("key", "secret", None, None, "test"),
                )),
            },
            clock,
        };
        let dir = tempfile::tempdir().unwrap();
        let (ask, shutdown) = Shutdown::channel();
        let engine = Arc::new(ScriptedEngine { script, log: self.log.clone(), jobs: 0.into() });
        let port = self.origin.rsplit(':').next().unwrap();
        let policy = rotoless_egress::Policy {
            allow_http: false,
            allow_addresses_dangerous: vec![format!("127.0.0.1:{port}").parse().unwrap()],
        };
        let egress = rotoless_egress::Egress::new(policy, rotoless_egress::Limits::default()).unwrap();
        let worker = Worker {
            control: connect.control(&timing).unwrap(),
            queue: connect.queue(&timing),
            transfer: Transfer::new(net::client().unwrap(), egress, PlainHttp::LoopbackOnly, timing.clone()),
            connect,
            engine: Arc::new(engine),
            provider: "cpu".to_owned(),
            worker_id: "test".to_owned(),
            fleet_key: FLEET_KEY.into(),
            work_dir: WorkDir::open(dir.path()).unwrap(),
            timing,
            shutdown,
            dismissed: Shutdown::channel().1,
            turn: None,
        };
        Served { worker, ask, dir }
    }

    pub(super) fn secret(&self, attempt: Attempt) -> SecretString {
        report_secret(&FLEET_KEY.into(), &self.job, attempt)
    }
}

/// A worker and what belongs to it.
pub(super) struct Served {
    pub(super) worker: Worker,
    pub(super) ask: AskShutdown,
    dir: tempfile::TempDir,
}

impl Served {
    /// Names of what attempts left on disk.
    pub(super) fn left_on_disk(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "lock").collect()
    }
}

/// Everything fast, nothing changed in kind.
pub(super) fn quick() -> Timing {
    Timing {
        receive_wait: Duration::ZERO,
        visibility: Duration::from_secs(60),
        call: Duration::from_secs(5),
        retry_first: Duration::from_millis(10),
        retry_cap: Duration::from_millis(50),
        tick: Duration::from_millis(10),
        engine_grace: Duration::from_millis(300),
        prompt_retry: Duration::from_secs(2),
        abandon_report: Duration::from_secs(1),
        idle_floor: Duration::from_millis(10),
        session_retry_cap: Duration::from_millis(20),
        ..Timing::default()
    }
}
