//! What starts a session, and how long a worker lives: the keys of those that receive their messages themselves.
//!
//! Invariant: nobody starts to poll for ever because a key was forgotten: what looks like RunPod is RunPod.

use std::time::Duration;

use rotoless_contract::Model;

use crate::config::{Key, Reader, key, secret};
use crate::drain::Drain;
use crate::runpod::RunPod;

/// Every key that says how sessions begin and how long a worker lives. A host that hands messages over reads none.
pub const SESSION_KEYS: &[Key] = &[
    key(
        "SESSIONS",
        Some(""),
        "What starts a session: poll (one after the other, for ever), runpod (a job of RunPod), once (at most one message, \
         then the end), drain (whatever there is, then the end). Without it runpod where RUNPOD_WEBHOOK_GET_JOB, RUNPOD_POD_ID or RUNPOD_ENDPOINT_ID is set, \
         else poll.",
    ),
    key("DRAIN_IDLE_SECONDS", Some("20"), "drain: ends when no message came for so long, 1 to 300 s."),
    key("ECS_AGENT_URI", Some(""), "Set by ECS: its agent, which protects a service's task from being scaled in."),
    key(
        "WARM_MODELS",
        Some(""),
        "Models that run two frames before the first session, by commas; the last one stays loaded. none: no model. \
         Without it, on RunPod alone, human or else light.",
    ),
    key("RECYCLE_JOBS", Some("100"), "On RunPod: attempts after which a worker has itself replaced; 0: never."),
    key(
        "RECYCLE_RSS_MB",
        Some("4096"),
        "On RunPod: growth of resident memory in MiB since the first session at which a worker has itself replaced; 0: never.",
    ),
    key("RUNPOD_WEBHOOK_GET_JOB", Some(""), "Set by RunPod: where jobs are taken; $ID stands for the worker."),
    key(
        "RUNPOD_WEBHOOK_POST_OUTPUT",
        Some(""),
        "Set by RunPod: where results go; $RUNPOD_POD_ID stands for the worker and $ID for the job.",
    ),
    key("RUNPOD_WEBHOOK_PING", Some(""), "Set by RunPod: the heartbeat; $RUNPOD_POD_ID stands for the worker."),
    key("RUNPOD_PING_INTERVAL", Some("10000"), "Set by RunPod: ms between heartbeats; less than 1000 counts as 1000."),
    secret("RUNPOD_AI_API_KEY", Some(""), "Set by RunPod: the whole value of the header Authorization."),
    key("RUNPOD_POD_ID", Some(""), "Set by RunPod: name of the worker."),
    key("RUNPOD_ENDPOINT_ID", Some(""), "Set by RunPod: name of the endpoint."),
    key(
        "RUNPOD_MIN_DISK_PERCENT",
        Some(""),
        "Least free part of the file system of WORK_DIR. Without it 10, or 2 GiB free.",
    ),
    key("RUNPOD_MIN_MEMORY_GB", Some("1"), "Least free memory in GiB before the first session."),
];

/// How sessions begin, and how long a worker lives.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// What starts a session.
    pub start: Start,
    /// Models that run before the first session; `None`: as suits the start.
    pub(crate) warm_models: Option<Vec<Model>>,
    pub(crate) recycle: Recycle,
    pub(crate) least: Least,
}

/// What starts a session.
#[derive(Debug, Clone)]
pub enum Start {
    /// The end of the one before: a worker that somebody else keeps running.
    Poll,
    /// The start of the process: at most one message, then it ends.
    Once,
    /// The start of the process, and then the end of the one before as long as there is anything to do.
    Drain(Drain),
    /// A job of RunPod.
    RunPod(Box<RunPod>),
}

/// When a worker has itself replaced; `None`: never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recycle {
    pub(crate) attempts: Option<u64>,
    /// Of resident memory, since the first session.
    pub(crate) growth_bytes: Option<u64>,
}

/// What a host must have free before the first session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Least {
    /// `None`: the default, which many bytes satisfy as well.
    pub(crate) disk_percent: Option<u8>,
    pub(crate) memory_bytes: u64,
}

impl Sessions {
    pub(crate) fn read(read: &mut Reader<'_>) -> Option<Self> {
        // Read whatever the start is, so that one with a problem does not hide another.
        let platform = RunPod::read(read);
        let drain = Drain::read(read);
        let named = read.optional("SESSIONS");
        let is_runpod =
            ["RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID"].map(|name| read.optional(name).is_some()).contains(&true);
        let implied = if is_runpod || platform.is_some() { "runpod" } else { "poll" };
        let start = match named.as_deref().unwrap_or(implied) {
            "poll" => Some(Start::Poll),
            "once" => Some(Start::Once),
            "drain" => drain.map(Start::Drain),
            "runpod" => {
                if platform.is_none() {
                    read.required("RUNPOD_WEBHOOK_GET_JOB");
                }
                platform.map(Box::new).map(Start::RunPod)
            }
            _ => {
                read.problem("SESSIONS", "is not poll, runpod, once or drain");
                None
            }
        };
        let warm_models = warm_models(read);
        let attempts = read.parsed("RECYCLE_JOBS").filter(|attempts| *attempts > 0);
        let growth_bytes =
            read.parsed("RECYCLE_RSS_MB").filter(|mib| *mib > 0).map(|mib: u64| mib.saturating_mul(1 << 20));
        let disk_percent =
            read.optional("RUNPOD_MIN_DISK_PERCENT").and_then(|_| read.parsed("RUNPOD_MIN_DISK_PERCENT"));
        let memory_gib: f64 = read.parsed("RUNPOD_MIN_MEMORY_GB")?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and nobody has so much"
        )]
        let memory_bytes = (memory_gib * f64::from(1 << 30)) as u64;
        Some(Self {
            start: start?,
            warm_models,
            recycle: Recycle { attempts, growth_bytes },
            least: Least { disk_percent, memory_bytes },
        })
    }
}

fn warm_models(read: &mut Reader<'_>) -> Option<Vec<Model>> {
    let listed = read.optional("WARM_MODELS")?;
    if listed == "none" {
        return Some(Vec::new());
    }
    let models: Result<Vec<Model>, _> = listed.split(',').map(|name| name.trim().parse()).collect();
    if models.is_err() {
        read.problem("WARM_MODELS", "is not none or a list of models");
    }
    models.ok()
}

impl Start {
    /// For logs.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Once => "once",
            Self::Drain(_) => "drain",
            Self::RunPod(_) => "runpod",
        }
    }
}

/// How long a session waits for a message whose wake is so old that another one was probably there before.
pub(crate) const WAIT_WHEN_LATE: Duration = Duration::from_secs(5);

/// A wake older than this is late.
pub(crate) const LATE: Duration = Duration::from_secs(60);
