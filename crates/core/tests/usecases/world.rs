//! A world: the store, a clock that stands still until told, and the use cases over them. Its clients have credits
//! and uploads, its workers do what a worker may do. When it ends, its books are audited.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rotoless_contract::api::JobRequest;
use rotoless_contract::manifest::{Manifest, manifest_key, output_key};
use rotoless_contract::media::{InputInfo, OutputInfo};
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::worker::{
    ClaimReply, ClaimRequest, HeartbeatReply, HeartbeatRequest, ProbedReply, ProbedRequest, ReportReply, ReportRequest,
    Stage,
};
use rotoless_contract::{Attempt, ClientId, JobId, MilliCredits, Run, UploadId};
use rotoless_core::ledger::{Balance, Hold, Movement};
use rotoless_core::lifecycle::Phase;
use rotoless_core::policy::{Policy, Pricing};
use rotoless_core::ports::{Clock, Entropy};
use rotoless_core::record::{AttemptRecord, DeliveryRecord, JobRecord};
use rotoless_core::source::{upload_key, upload_url};
use rotoless_core::usecase::{
    AttemptCalls, CallError, Cancel, Claims, Created, IdempotencyKey, Submit, SubmitError, Sweep, Swept,
};
use secrecy::SecretString;

use super::store::{Call, Store, When};

/// Price of the test video: 3 s at 0.75 credits a second.
pub(crate) const PRICE: MilliCredits = MilliCredits(2250);
const GRANTED: MilliCredits = MilliCredits(100_000);

pub(crate) struct Ticker(AtomicI64);

impl Clock for Ticker {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// Different at every call, the same in every run.
#[derive(Default)]
pub(crate) struct Counted(AtomicU64);

impl Entropy for Counted {
    fn bits(&self) -> [u8; 32] {
        let n = self.0.fetch_add(1, Ordering::SeqCst);
        let hex = sha256_hex(&n.to_be_bytes());
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }
}

#[derive(Clone)]
pub(crate) struct World {
    pub store: Arc<Store>,
    pub clock: Arc<Ticker>,
    pub entropy: Arc<Counted>,
    pub policy: Arc<Policy>,
    pub client: ClientId,
    pub master: SecretString,
    audit: Arc<Audit>,
}

/// Lets every name through but one.
struct Public;

impl rotoless_core::ports::UrlPolicy for Public {
    fn check(&self, url: &str) -> Result<(), String> {
        if url.contains("forbidden") { Err("address not allowed".to_owned()) } else { Ok(()) }
    }
}

/// Audits when the last clone of a world goes.
struct Audit(Arc<Store>);

impl Drop for Audit {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            audit(&self.0);
        }
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let store = Arc::new(Store::default());
        let client: ClientId = "acme".parse().unwrap();
        {
            let mut tables = store.tables();
            tables.header_ms = Some(3000);
            tables.objects.insert(upload_key(&client, &upload_id()), Bytes::from_static(b"video"));
            let balance = Balance { available: GRANTED, ..Balance::default() };
            tables.balances.insert(client.clone(), balance);
            tables.ledger.insert((client.clone(), "grant#start".to_owned()), Movement::Grant(GRANTED));
        }
        Self {
            audit: Arc::new(Audit(store.clone())),
            store,
            clock: Arc::new(Ticker(AtomicI64::new(1_800_000_000_000))),
            entropy: Arc::default(),
            policy: Arc::new(Policy::default()),
            client,
            master: SecretString::from("master"),
        }
    }

    /// Another client's view of the same world, with an upload and no credits.
    pub(crate) fn other_client(&self) -> Self {
        let client: ClientId = "other".parse().unwrap();
        let key = upload_key(&client, &upload_id());
        self.store.tables().objects.insert(key, Bytes::from_static(b"video"));
        Self { client, audit: self.audit.clone(), ..self.clone() }
    }

    /// The same world under another price list.
    pub(crate) fn priced(&self, pricing: Pricing) -> Self {
        let policy = Arc::new(Policy { pricing, ..(*self.policy).clone() });
        Self { policy, audit: self.audit.clone(), ..self.clone() }
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn pass_lease(&self) {
        self.pass(self.policy.lease.as_secs());
    }

    /// The next call number `n` from now fails once.
    pub(crate) fn fail_call(&self, n: usize, when: When) {
        let mut tables = self.store.tables();
        let nth = tables.calls.len() + n;
        tables.faults.insert(nth, when);
    }

    pub(crate) fn down(&self, call: Call) {
        self.store.tables().down.insert(call);
    }

    pub(crate) fn all_up(&self) {
        self.store.tables().down.clear();
    }

    pub(crate) fn submit(&self) -> Submit {
        Submit {
            jobs: self.store.clone(),
            promises: self.store.clone(),
            objects: self.store.clone(),
            probe: self.store.clone(),
            urls: Arc::new(Public),
            queue: self.store.clone(),
            waker: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
        }
    }

    pub(crate) fn claims(&self) -> Claims {
        Claims {
            jobs: self.store.clone(),
            objects: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
            master: self.master.clone(),
        }
    }

    pub(crate) fn calls(&self) -> AttemptCalls {
        AttemptCalls {
            jobs: self.store.clone(),
            objects: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
        }
    }

    pub(crate) fn canceller(&self) -> Cancel {
        Cancel {
            jobs: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
        }
    }

    pub(crate) fn sweeper(&self) -> Sweep {
        Sweep {
            jobs: self.store.clone(),
            objects: self.store.clone(),
            queue: self.store.clone(),
            waker: self.store.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
        }
    }

    pub(crate) fn request(&self) -> JobRequest {
        JobRequest {
            video_url: Some(upload_url("https://api.example", &upload_id())),
            model: Some("light".to_owned()),
            webhook_url: Some("https://hooks.example/in".to_owned()),
            ..JobRequest::default()
        }
    }

    pub(crate) async fn create_with(&self, key: &str, digest: &str) -> Result<Created, SubmitError> {
        let promise = IdempotencyKey { key: key.to_owned(), digest: digest.to_owned() };
        self.submit().create(&self.client, &self.request(), Some(&promise), None).await
    }

    /// A job that was created and queued.
    pub(crate) async fn created(&self) -> JobId {
        self.submit().create(&self.client, &self.request(), None, None).await.unwrap().job.id
    }

    /// What a tick did; how late it came is none of its deeds.
    pub(crate) async fn sweep(&self) -> Swept {
        Swept { oldest_due_seconds: 0, ..self.sweeper().tick().await.unwrap() }
    }

    /// A worker with the job's current message claims.
    pub(crate) async fn try_claim(&self, id: &JobId) -> Result<ClaimReply, CallError> {
        let job = self.job(id);
        self.claims().claim(id, &claim_request(job.state.run.unwrap(), &job.claim_token.unwrap().0)).await
    }

    /// A worker with a message of the first run and this token claims.
    pub(crate) async fn try_claim_with(&self, token: &str, id: &JobId) -> Result<ClaimReply, CallError> {
        self.claims().claim(id, &claim_request(Run::FIRST, token)).await
    }

    pub(crate) async fn claimed(&self, id: &JobId) -> ClaimReply {
        self.try_claim(id).await.unwrap()
    }

    pub(crate) async fn heartbeat(
        &self,
        claim: &ClaimReply,
        frames_done: u64,
        frames_total: u64,
    ) -> Result<HeartbeatReply, CallError> {
        let beat = HeartbeatRequest::at(Stage::Matte, frames_done, frames_total);
        self.calls().heartbeat(&claim.job_id, claim.attempt, &beat).await
    }

    pub(crate) async fn probed(&self, claim: &ClaimReply, duration_ms: u64) -> Result<ProbedReply, CallError> {
        let probed = ProbedRequest { input: input(), duration_ms };
        self.calls().probed(&claim.job_id, claim.attempt, &probed).await
    }

    /// Uploads an output of 3 s and its manifest, unless the run has one; returns the manifest's digest.
    pub(crate) fn finish_work(&self, claim: &ClaimReply) -> String {
        self.finish_work_of(claim, 3000)
    }

    pub(crate) fn finish_work_of(&self, claim: &ClaimReply, duration_ms: u64) -> String {
        self.upload_output(claim);
        self.put_manifest(claim, &manifest(claim, duration_ms))
    }

    pub(crate) fn upload_output(&self, claim: &ClaimReply) {
        self.store.tables().objects.insert(claim.output.key.clone(), Bytes::from_static(b"output"));
    }

    /// As `If-None-Match: *` does it: the first one stays. Returns the digest of what was offered.
    pub(crate) fn put_manifest(&self, claim: &ClaimReply, manifest: &Manifest) -> String {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = sha256_hex(&bytes);
        self.store.tables().objects.entry(claim.manifest.key.clone()).or_insert(bytes.into());
        digest
    }

    pub(crate) async fn report(&self, claim: &ClaimReply, report: &ReportRequest) -> Result<ReportReply, CallError> {
        let body = serde_json::to_vec(report).unwrap();
        self.calls().report(&claim.job_id, claim.attempt, report, &body).await
    }

    pub(crate) async fn report_completed(&self, claim: &ClaimReply, digest: &str) -> Result<ReportReply, CallError> {
        self.report(claim, &ReportRequest::Completed { manifest_sha256: digest.to_owned() }).await
    }

    pub(crate) fn job(&self, id: &JobId) -> JobRecord {
        self.store.tables().jobs[id].clone()
    }

    pub(crate) fn attempt(&self, id: &JobId, n: u32) -> AttemptRecord {
        self.store.tables().attempts[&(id.clone(), Attempt::new(n).unwrap())].clone()
    }

    /// The job's events, in the order they happened.
    pub(crate) fn events(&self, id: &JobId) -> Vec<DeliveryRecord> {
        let tables = self.store.tables();
        let mut events: Vec<_> = tables.deliveries.values().filter(|event| event.job_id == *id).cloned().collect();
        events.sort_by_key(|event| event.sequence);
        events
    }

    pub(crate) fn balance(&self) -> Balance {
        self.store.tables().balances.get(&self.client).copied().unwrap_or_default()
    }

    pub(crate) fn messages(&self) -> usize {
        self.store.tables().messages.len()
    }

    pub(crate) fn jobs(&self) -> usize {
        self.store.tables().jobs.len()
    }
}

pub(crate) fn upload_id() -> UploadId {
    UploadId::from_random([7; 16])
}

pub(crate) fn claim_request(run: Run, token: &str) -> ClaimRequest {
    ClaimRequest {
        v: 1,
        run,
        claim_token: SecretString::from(token.to_owned()),
        worker_id: "worker-1".to_owned(),
        provider: "cpu".to_owned(),
    }
}

pub(crate) fn input() -> InputInfo {
    InputInfo { width: 640, height: 360, fps: 30.0, codec: "h264".to_owned(), has_audio: false, duration_seconds: 3.0 }
}

/// What an honest worker writes about `b"output"`.
pub(crate) fn manifest(claim: &ClaimReply, duration_ms: u64) -> Manifest {
    assert_eq!(claim.manifest.key, manifest_key(&claim.job_id, claim.run));
    let extension = claim.spec.output_format.extension();
    Manifest {
        v: 1,
        job_id: claim.job_id.clone(),
        run: claim.run,
        attempt: claim.attempt,
        output_key: output_key(&claim.job_id, claim.run, claim.attempt, extension),
        matte: None,
        input: input(),
        output: OutputInfo {
            format: claim.spec.output_format,
            size_bytes: 6,
            sha256: sha256_hex(b"output"),
            width: 640,
            height: 360,
            fps: 30.0,
            frames: (duration_ms / 33).max(1),
            duration_ms,
            has_alpha: true,
            has_audio: false,
        },
        quality: None,
        warnings: Vec::new(),
    }
}

/// G-01, G-03, G-05, G-10: what must hold at every moment, whatever happened before.
fn audit(store: &Store) {
    let tables = store.tables();
    for (client, balance) in &tables.balances {
        let rows = || tables.ledger.iter().filter(|((owner, _), _)| owner == client).map(|(_, movement)| movement);
        let deltas: Vec<_> = rows().map(|movement| movement.delta()).collect();
        let sums = [
            deltas.iter().map(|delta| delta.available).sum::<i128>(),
            deltas.iter().map(|delta| delta.held).sum(),
            deltas.iter().map(|delta| delta.used).sum(),
        ];
        assert_eq!(sums, [balance.available, balance.held, balance.used].map(|part| i128::from(part.0)), "ledger");
        let grants = rows().map(|movement| if let Movement::Grant(amount) = movement { amount.0 } else { 0 });
        let granted: u64 = grants.sum();
        assert_eq!(granted, balance.available.0 + balance.held.0 + balance.used.0, "credits made or lost");
        let of = |part: fn(Hold) -> MilliCredits| -> u64 {
            (tables.jobs.values().filter(|job| job.client == *client)).map(|job| part(job.state.hold).0).sum()
        };
        assert_eq!(of(Hold::held), balance.held.0, "held by jobs and held in the balance");
        assert_eq!(of(Hold::charged), balance.used.0, "charged by jobs and used in the balance");
    }
    for (upload, open) in &tables.open_uploads {
        let needs = |job: &&JobRecord| job.needed_uploads().contains(&upload);
        assert_eq!(i64::try_from(tables.jobs.values().filter(needs).count()).unwrap(), *open, "uses of an upload");
        assert!(*open == 0 || !tables.gone_uploads.contains(upload), "an upload that is needed was removed");
    }
    for job in tables.jobs.values() {
        audit_job(job);
        let numbers: Vec<u32> =
            tables.attempts.keys().filter(|(id, _)| *id == job.id).map(|(_, attempt)| attempt.get()).collect();
        assert_eq!(numbers, (1..=job.state.attempts).collect::<Vec<_>>(), "attempts without gaps");
        let rows = tables.attempts.iter().filter(|((id, _), _)| *id == job.id).map(|(_, row)| row);
        let open: Vec<Attempt> = rows.filter(|row| row.ended_at.is_none()).map(|row| row.attempt).collect();
        let holder = match job.state.phase {
            Phase::Processing { attempt, .. } => vec![attempt],
            _ => Vec::new(),
        };
        assert_eq!(open, holder, "every attempt but the one at work has an end");
        let events = tables.deliveries.values().filter(|event| event.job_id == job.id);
        let sequences: Vec<u32> = events.map(|event| event.sequence).collect();
        assert_eq!(sequences.iter().collect::<BTreeSet<_>>().len(), sequences.len(), "each event its own number");
    }
}

fn audit_job(job: &JobRecord) {
    match job.state.phase {
        Phase::Completed => {
            assert!(matches!(job.state.hold, Hold::Captured(_)), "completed and not captured");
            assert!(job.output.is_some() && (job.due_at.is_none() || job.deletion.is_some()));
        }
        Phase::Failed { .. } => {
            assert!(matches!(job.state.hold, Hold::Released(_) | Hold::None), "failed and not released");
            assert!(job.output.is_none() && (job.due_at.is_none() || job.deletion.is_some()));
        }
        Phase::Pending | Phase::Processing { .. } => {
            assert!(matches!(job.state.hold, Hold::Held(_)), "under way and not held");
            let end = job.queued_at.unwrap() + SignedDuration::from_hours(24);
            let late = job.postponed.is_some();
            assert!(job.due_at.is_some_and(|due| late || due <= end), "the sweep would never see its end");
        }
        Phase::Draft => assert!(job.state.hold == Hold::None && job.due_at.is_some()),
    }
}
