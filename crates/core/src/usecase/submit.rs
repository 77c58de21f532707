//! Create and start: validate, look at the source's header, then job, hold and promise in one transaction; then
//! the message; then the wake. After the transaction everything is repairable by the sweep.

mod background_media;
mod export;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rotoless_contract::api::JobRequest;
use rotoless_contract::queue::{MESSAGE_VERSION, QueueMessage};
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::{ClientId, JobId, MilliCredits, Model};
use secrecy::SecretString;

pub use self::export::NotExportable;
use super::JUDGEMENTS;
use super::change::{Context, next_due};
use crate::header::{Header, HeaderError};
use crate::lifecycle::{self, Command, JobState, Phase, Refused};
use crate::policy::{Policy, billed_seconds, cost};
use crate::ports::{
    Change, Clock, CommitError, Entropy, Jobs, Objects, Promises, SourceProbe, SourceProbeError, StoreError, UrlPolicy,
    Waker, WorkQueue,
};
use crate::record::{ClaimToken, Exported, IdempotencyRecord, JobRecord, Source};
use crate::request::{self, InvalidRequest, Order};
use crate::source::{own_upload, upload_key};
use crate::usage::Caller;

/// Creates and starts jobs.
pub struct Submit {
    /// Jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Idempotency records.
    pub promises: Arc<dyn Promises>,
    /// Uploads.
    pub objects: Arc<dyn Objects>,
    /// Headers of uploads.
    pub probe: Arc<dyn SourceProbe>,
    /// Which URLs of clients may be opened.
    pub urls: Arc<dyn UrlPolicy>,
    /// Where messages go.
    pub queue: Arc<dyn WorkQueue>,
    /// Makes workers exist.
    pub waker: Arc<dyn Waker>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids and tokens.
    pub entropy: Arc<dyn Entropy>,
    /// Prices, limits, times.
    pub policy: Arc<Policy>,
}

/// What a job of somebody else's URL is told.
const UNMEASURED: &str =
    "the length of `video_url` is not known yet: credits for one second are held, and adjusted when it was measured";

/// A client's wish that a repeated request has one effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// As sent, at most 255 bytes.
    pub key: String,
    /// SHA-256 over the canonical request, hex.
    pub digest: String,
}

/// A job that was created, or had been by the same request before.
#[derive(Debug, Clone)]
pub struct Created {
    /// The job.
    pub job: JobRecord,
    /// It existed before.
    pub replayed: bool,
}

/// Why no job was created or started.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The request or its source is not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// Unknown, or somebody else's.
    #[error("unknown job")]
    UnknownJob,
    /// The balance does not cover the hold.
    #[error("not enough credits")]
    InsufficientCredits,
    /// The client has as many jobs under way as it may have.
    #[error("too many jobs under way")]
    TooManyJobs,
    /// The job runs, or has run, with other options.
    #[error("the job has started with other options")]
    AlreadyStarted,
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The key was used for a job that has been deleted since.
    #[error("the idempotency key belongs to a deleted job")]
    JobDeleted,
    /// A dependency failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No export can be made of the job.
    #[error(transparent)]
    NotExportable(#[from] NotExportable),
    /// The job kept changing.
    #[error("too much contention")]
    Contention,
}

/// A source that may be worked on.
pub(super) struct Measured {
    pub source: Source,
    /// The header's length in ms, where it has one.
    pub duration_ms: Option<u64>,
    /// Seconds to hold credits for.
    pub seconds: u64,
}

impl Submit {
    /// Creates a job and, unless `auto_start` is false, starts it.
    ///
    /// `caller`, where the request is to be kept as a usage event, is stored in the same transaction.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was created, held or sent.
    pub async fn create(
        &self,
        client: &ClientId,
        request: &JobRequest,
        promise: Option<&IdempotencyKey>,
        caller: Option<&Caller>,
    ) -> Result<Created, SubmitError> {
        let outcome = self.create_anew(client, request, promise, caller).await;
        self.enqueued_or_replayed(client, promise, outcome).await
    }

    /// The answer to a request that makes a job: the new one, or the one that the same request made before.
    async fn enqueued_or_replayed(
        &self,
        client: &ClientId,
        promise: Option<&IdempotencyKey>,
        outcome: Result<JobRecord, SubmitError>,
    ) -> Result<Created, SubmitError> {
        let refused = match outcome {
            Ok(job) => return Ok(Created { job: self.enqueue(job).await, replayed: false }),
            Err(refused) => refused,
        };
        // What was accepted once is answered as it was then, whatever stands in the way now. Looked up only here: the
        // transaction refuses a key that is taken, so a new request pays nothing for the look.
        let before = match promise {
            Some(promise) => self.replay(client, promise).await?,
            None => None,
        };
        before.map(|job| Created { job, replayed: true }).ok_or(refused)
    }

    async fn create_anew(
        &self,
        client: &ClientId,
        request: &JobRequest,
        promise: Option<&IdempotencyKey>,
        caller: Option<&Caller>,
    ) -> Result<JobRecord, SubmitError> {
        let mut order = self.order(request)?;
        let measured = self.measure(client, request).await?;
        if matches!(measured.source, Source::External { .. }) {
            order.warnings.push(UNMEASURED.to_owned());
        }
        let background_source = self.background_media(client, request, &order.spec).await?;
        let draft = JobRecord { background_source, ..self.draft(client, request, order, measured) };
        let mut change = self.first_commit(&draft, promise)?;
        change.call = caller.map(|caller| caller.record(change.job.updated_at, 200, Some(&change.job)));
        let job = change.job.clone();
        match self.jobs.commit(change).await {
            Ok(()) => Ok(job),
            Err(err) => Err(refused_start(err).unwrap_or(SubmitError::Contention)),
        }
    }

    /// Starts a draft or, in a new run, a failed job; `overrides` are laid over what was sent before. A job that
    /// runs or has completed is returned as it is, unless the overrides would change it.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started.
    pub async fn start(&self, client: &ClientId, id: &JobId, overrides: &JobRequest) -> Result<JobRecord, SubmitError> {
        for _ in 0..JUDGEMENTS {
            let before = self.own_job(client, id).await?;
            let request = request::overlay(&before.request, overrides);
            let mut order = self.order(&request)?;
            if before.exported.is_some() {
                export::keep_what_is_exported(&before, &mut order);
            }
            let rate = self.rate(order.spec.model, before.exported.as_ref());
            let start = Command::Start { cost: cost(rate, before.billed_seconds) };
            let transition = match lifecycle::apply(&before.state, start) {
                Ok(transition) => transition,
                Err(Refused::AlreadyStarted) if order.spec == before.spec => return Ok(before),
                Err(
                    Refused::AlreadyStarted
                    | Refused::Terminal
                    | Refused::Superseded
                    | Refused::Leased { .. }
                    | Refused::Exhausted
                    | Refused::StaleAttempt
                    | Refused::NothingToDo,
                ) => return Err(SubmitError::AlreadyStarted),
            };
            let background = self.background_media(client, &request, &order.spec).await?;
            let context = self.context();
            let mut change = context.change(&before, transition, |job| {
                adopt_order(job, request, order);
                job.background_source = background;
                self.begin_run(job, context.now);
            });
            change.max_open = Some(self.policy.max_open_jobs);
            let job = change.job.clone();
            match self.jobs.commit(change).await {
                Ok(()) => return Ok(self.enqueue(job).await),
                Err(err) => {
                    if let Some(refused) = refused_start(err) {
                        return Err(refused);
                    }
                    // Judged anew.
                }
            }
        }
        Err(SubmitError::Contention)
    }

    /// Message, then wake: never the other way round, or a worker may find the queue empty and the message sleep.
    /// Failures are left to the sweep, which looks at every job without `enqueued_at`.
    async fn enqueue(&self, job: JobRecord) -> JobRecord {
        let Some(message) = message(&job) else { return job };
        if let Err(err) = self.queue.send(&message, &job.client).await {
            tracing::warn!(job.id = %job.id, error = %err, "message not sent, left to the sweep");
            return job;
        }
        if let Err(err) = self.waker.wake(1).await {
            tracing::warn!(job.id = %job.id, error = %err, "wake not sent, left to the sweep");
        }
        let now = self.clock.now();
        let change = self.context().edit(&job, |job| job.enqueued_at = Some(now));
        let enqueued = change.job.clone();
        match self.jobs.commit(change).await {
            Ok(()) => enqueued,
            // A worker was quicker, or the store is away: the message is there, which is what counts.
            Err(_) => job,
        }
    }

    async fn own_job(&self, client: &ClientId, id: &JobId) -> Result<JobRecord, SubmitError> {
        let job = self.jobs.job(id).await?;
        job.filter(|job| job.is_shown_to(client)).ok_or(SubmitError::UnknownJob)
    }

    /// The job that the same request made before, if the promise still holds.
    ///
    /// # Errors
    /// [`SubmitError::KeyReused`] when the key belongs to another request.
    pub async fn replay(&self, client: &ClientId, promise: &IdempotencyKey) -> Result<Option<JobRecord>, SubmitError> {
        let Some(stored) = self.promises.promise(&scope(client, promise)).await? else { return Ok(None) };
        if stored.expires_at <= self.clock.now() {
            return Ok(None);
        }
        if stored.digest != promise.digest {
            return Err(SubmitError::KeyReused);
        }
        let job = self.jobs.job(&stored.job_id).await?;
        match job.filter(|job| job.is_shown_to(client)) {
            Some(job) => Ok(Some(job)),
            None => Err(SubmitError::JobDeleted),
        }
    }

    /// What a valid request orders, with URLs that may be opened as far as that can be told now.
    pub(super) fn order(&self, request: &JobRequest) -> Result<Order, SubmitError> {
        let order = request::validate(request, &self.policy)?;
        if let Some(url) = &order.webhook_url {
            self.may_be_opened("webhook_url", url)?;
        }
        Ok(order)
    }

    /// Whether a URL of a client may be opened: its form and whatever needs no look-up.
    fn may_be_opened(&self, param: &'static str, url: &str) -> Result<(), InvalidRequest> {
        request::http_url(url, param, self.policy.allow_http)?;
        self.urls.check(url).map_err(|why| {
            InvalidRequest::field(param, format!("{param} cannot be opened: {why}")).with_reason("url_not_allowed")
        })
    }

    /// The source, as far as its header tells.
    pub(super) async fn measure(&self, client: &ClientId, request: &JobRequest) -> Result<Measured, SubmitError> {
        let invalid = |message: &str| InvalidRequest::field("video_url", message);
        let video_url = request.video_url.as_deref().filter(|url| !url.is_empty());
        let video_url = video_url.ok_or_else(|| invalid("video_url is required"))?;
        let Some(upload_id) = own_upload(video_url) else {
            self.may_be_opened("video_url", video_url)?;
            let source = Source::External { url: video_url.to_owned() };
            // The least there is: the worker raises it when it has measured the video, before any work on it.
            return Ok(Measured { source, duration_ms: None, seconds: 1 });
        };
        let key = upload_key(client, &upload_id);
        let Some(info) = self.objects.head(&key).await? else {
            return Err(invalid("video_url names no upload").with_reason("upload_not_found").into());
        };
        if info.size_bytes > self.policy.limits.max_bytes {
            return Err(invalid("File too large").with_reason("file_too_large").into());
        }
        let header = match self.probe.read_header(&key, info.size_bytes).await {
            Ok(header) => header,
            Err(SourceProbeError::Header(err)) => return Err(refused_header(&err).into()),
            Err(SourceProbeError::Store(err)) => return Err(err.into()),
        };
        let seconds = billed_seconds(self.within_limits(&header)?);
        let source = Source::Upload { upload_id, key, size_bytes: info.size_bytes };
        Ok(Measured { source, duration_ms: header.duration_ms, seconds })
    }

    /// The length to hold credits for, in ms: the header's, or the longest allowed where it has none.
    fn within_limits(&self, header: &Header) -> Result<u64, InvalidRequest> {
        let limits = &self.policy.limits;
        let exceeds = |what: &str, reason| Err(InvalidRequest::field("video_url", what).with_reason(reason));
        let side = header.width.unwrap_or(0).max(header.height.unwrap_or(0));
        if side > limits.max_side {
            return exceeds("The video's picture is too large", "resolution_too_large");
        }
        match header.duration_ms {
            Some(ms) if ms > limits.max_duration_ms => exceeds("The video is too long", "duration_too_long"),
            Some(ms) => Ok(ms),
            None => Ok(limits.max_duration_ms),
        }
    }

    fn draft(&self, client: &ClientId, request: &JobRequest, order: Order, measured: Measured) -> JobRecord {
        let now = self.clock.now();
        let mut job = JobRecord {
            id: JobId::from_random(self.entropy.id_bits()),
            client: client.clone(),
            version: 0,
            state: JobState::draft(),
            request: JobRequest::default(),
            spec: order.spec.clone(),
            source: measured.source,
            background_source: None,
            webhook_url: None,
            metadata: None,
            warnings: Vec::new(),
            pricing_version: self.policy.pricing.version.clone(),
            rate: self.policy.pricing.per_second(order.spec.model),
            billed_seconds: measured.seconds,
            claim_token: None,
            created_at: now,
            updated_at: now,
            queued_at: None,
            enqueued_at: None,
            resends: 0,
            started_at: None,
            completed_at: None,
            stage: None,
            frames: None,
            matting_since: None,
            input: None,
            output: None,
            matte: None,
            exported: None,
            quality: None,
            events: BTreeMap::new(),
            last_beat: None,
            last_report: None,
            due_at: None,
            postponed: None,
            trail: Vec::new(),
            deletion: None,
        };
        adopt_order(&mut job, request.clone(), order);
        job
    }

    fn first_commit(&self, draft: &JobRecord, promise: Option<&IdempotencyKey>) -> Result<Change, SubmitError> {
        let context = self.context();
        let mut change = if draft.request.auto_start == Some(false) {
            context.edit(draft, |_| {})
        } else {
            let start = Command::Start { cost: cost(draft.rate, draft.billed_seconds) };
            let transition = lifecycle::apply(&draft.state, start).map_err(|_| SubmitError::AlreadyStarted)?;
            let change = context.change(draft, transition, |job| self.begin_run(job, context.now));
            Change { max_open: Some(self.policy.max_open_jobs), ..change }
        };
        change.idempotency = promise.map(|promise| IdempotencyRecord {
            scope: scope(&draft.client, promise),
            digest: promise.digest.clone(),
            job_id: draft.id.clone(),
            expires_at: context.now.saturating_add(self.policy.idempotency_life).unwrap_or(Timestamp::MAX),
        });
        Ok(change)
    }

    /// What belongs to a run and is made anew with it.
    fn begin_run(&self, job: &mut JobRecord, now: Timestamp) {
        job.pricing_version.clone_from(&self.policy.pricing.version);
        job.rate = self.rate(job.spec.model, job.exported.as_ref());
        job.claim_token = Some(ClaimToken(sha256_hex(&self.entropy.bits())));
        job.queued_at = Some(now);
        job.enqueued_at = None;
        job.resends = 0;
        job.started_at = None;
        job.completed_at = None;
        job.stage = None;
        job.frames = None;
        job.matting_since = None;
        job.last_beat = None;
        job.output = None;
        job.matte = None;
        job.quality = None;
        job.last_report = None;
        job.due_at = next_due(job, &self.policy);
    }

    /// Milli-credits a second. What was inferred once is paid for.
    fn rate(&self, model: Model, exported: Option<&Exported>) -> MilliCredits {
        if exported.is_some() { MilliCredits::ZERO } else { self.policy.pricing.per_second(model) }
    }

    fn context(&self) -> Context<'_> {
        Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy }
    }
}

/// The queue message of a job that waits for a worker.
pub(super) fn message(job: &JobRecord) -> Option<QueueMessage> {
    let (Phase::Pending, Some(run), Some(token)) = (job.state.phase, job.state.run, &job.claim_token) else {
        return None;
    };
    let claim_token = SecretString::from(token.0.clone());
    Some(QueueMessage { v: MESSAGE_VERSION, job_id: job.id.clone(), run, claim_token })
}

fn adopt_order(job: &mut JobRecord, request: JobRequest, order: Order) {
    job.request = JobRequest { unknown: serde_json::Map::new(), ..request };
    job.spec = order.spec;
    job.webhook_url = order.webhook_url;
    job.metadata = order.metadata;
    job.warnings = order.warnings;
}

/// What a commit that did not happen means to whoever starts a job; `None` where another judgement may help.
fn refused_start(err: CommitError) -> Option<SubmitError> {
    match err {
        CommitError::Stale | CommitError::AlreadyInLedger | CommitError::KeyTaken => None,
        CommitError::InsufficientCredits => Some(SubmitError::InsufficientCredits),
        CommitError::TooManyOpen => Some(SubmitError::TooManyJobs),
        CommitError::UploadGone => Some(upload_gone().into()),
        CommitError::Store(err) => Some(err.into()),
    }
}

/// It was there when it was looked at, and is being removed.
fn upload_gone() -> InvalidRequest {
    InvalidRequest::field("video_url", "video_url names no upload").with_reason("upload_not_found")
}

fn scope(client: &ClientId, promise: &IdempotencyKey) -> String {
    format!("{client}#{}", sha256_hex(promise.key.as_bytes()))
}

fn refused_header(err: &HeaderError) -> InvalidRequest {
    InvalidRequest::field("video_url", err.to_string()).with_reason("invalid_file_type")
}
