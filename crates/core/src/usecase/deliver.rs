//! Deliver: sends the webhook events whose time has come.
//!
//! Owns: who is sent to when, and what comes of it. Does not own: the exchange (port [`WebhookSender`]).
//!
//! Invariants: an event is leased before it is sent, so two ticks do not send it at once; a crash after the lease
//! delays it by [`TRY_LEASE`] and never loses it; an event keeps its id over all tries. The events of one client to
//! one endpoint wait for each other, and for nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use rotoless_contract::api::DeliveryAttempt;
use rotoless_contract::job::EventState;
use rotoless_contract::signature::{sign_standard_webhook, sign_webhook, webhook_secret};
use rotoless_contract::webhook::WebhookEvent;
use rotoless_contract::{ClientId, DeliveryId, Job, JobId, JobStatus};
use secrecy::SecretString;

use super::JUDGEMENTS;
use super::change::Context;
use crate::policy::Policy;
use crate::ports::{
    Clock, CommitError, Deliveries, Entropy, Jobs, Objects, SendOutcome, Signings, StoreError, WebhookRequest,
    WebhookSender,
};
use crate::record::{DeliveryRecord, JobRecord};
use crate::schedule::{WAITS_SECONDS, next_try};

/// Events looked at in one tick.
const BATCH: u32 = 200;
/// Events read at once.
const READS: usize = 16;
/// Endpoints sent to at once.
const ENDPOINTS: usize = 64;
/// Endpoints sent to at once by all ticks of a process: each has up to [`PER_ENDPOINT`] connections.
const MOST_BUSY: usize = 256;
/// Exchanges with one endpoint at once.
const PER_ENDPOINT: usize = 2;
/// A tick begins no exchange with an endpoint that has kept it this long. The rest stays due for the next tick.
const ENDPOINT_TIME: SignedDuration = SignedDuration::from_secs(10);
/// After this many exchanges in a row without any answer, an endpoint's other events are postponed untried.
const SILENCES: u32 = 2;
/// How long they are postponed.
const POSTPONED: SignedDuration = SignedDuration::from_secs(60);
/// A postponed event that is older than this is given up: well beyond the schedule's last try.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(48);
/// A try that has not been recorded after this long counts as lost. Longer than an exchange may last.
const TRY_LEASE: SignedDuration = SignedDuration::from_secs(60);
/// Tries that an event remembers.
const ATTEMPTS: usize = 20;
/// An event that was leased this often has been lost as often as tried: whatever it does to us, it stops.
const MAX_LEASES: u32 = 2 * WAITS_SECONDS.len() as u32;

/// Sends webhooks.
pub struct Deliver {
    /// Events.
    pub deliveries: Arc<dyn Deliveries>,
    /// Their jobs.
    pub jobs: Arc<dyn Jobs>,
    /// Which secrets sign.
    pub signings: Arc<dyn Signings>,
    /// Links to outputs.
    pub objects: Arc<dyn Objects>,
    /// The way out.
    pub sender: Arc<dyn WebhookSender>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Times.
    pub policy: Arc<Policy>,
    /// What clients' signing secrets are derived from.
    pub master: SecretString,
}

/// What one tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Answered with 2xx.
    pub sent: u32,
    /// To be tried again.
    pub retried: u32,
    /// Given up.
    pub given_up: u32,
    /// Put off untried, because their endpoint does not answer.
    pub postponed: u32,
    /// Could not be read, leased or recorded: they come again.
    pub failed: u32,
}

impl Delivered {
    /// Whether there was nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }

    fn one(result: Result<Option<Done>, StoreError>, job: &JobId, id: &DeliveryId) -> Self {
        let mut one = Self::default();
        match result {
            Ok(Some(Done::Ended(EventState::Sent))) => one.sent = 1,
            Ok(Some(Done::Ended(EventState::Pending))) => one.retried = 1,
            Ok(Some(Done::Ended(EventState::Failed))) => one.given_up = 1,
            Ok(Some(Done::Postponed)) => one.postponed = 1,
            Ok(None) => {}
            Err(err) => {
                one.failed = 1;
                tracing::error!(job.id = %job, delivery.id = %id, error = %err, "delivery not recorded");
            }
        }
        one
    }
}

impl AddAssign for Delivered {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.retried += other.retried;
        self.given_up += other.given_up;
        self.postponed += other.postponed;
        self.failed += other.failed;
    }
}

/// What became of one event in one tick.
enum Done {
    /// A try was made, or the last one is over.
    Ended(EventState),
    /// Not tried.
    Postponed,
}

/// Whose events, and scheme, host and port they go to.
type Endpoint = (ClientId, String);

/// Endpoints that ticks of this process are busy with. Ticks that share it may run beside one another: each leaves
/// alone what another one serves, so that an endpoint never has more exchanges at once than one tick gives it.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Mutex<BTreeSet<Endpoint>>>);

/// One endpoint, until dropped.
struct Served(Busy, Endpoint);

impl Busy {
    fn begin(&self, endpoint: Endpoint) -> Option<Served> {
        let mut busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.len() >= MOST_BUSY {
            return None;
        }
        busy.insert(endpoint.clone()).then(|| Served(self.clone(), endpoint))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Deliver {
    /// One tick over the due events. It lasts about as long as the slowest endpoint is given: two exchanges.
    ///
    /// # Errors
    /// [`StoreError`] when the due events cannot be listed.
    pub async fn tick(&self) -> Result<Delivered, StoreError> {
        self.tick_beside(&Busy::default()).await
    }

    /// The same, beside other ticks that share `busy`: whoever waits for this one's end before the next one begins
    /// makes every endpoint wait for the slowest.
    ///
    /// # Errors
    /// [`StoreError`] when the due events cannot be listed.
    pub async fn tick_beside(&self, busy: &Busy) -> Result<Delivered, StoreError> {
        let mut delivered = Delivered::default();
        let due = self.deliveries.due_deliveries(self.clock.now(), BATCH).await?;
        let mut found = stream::iter(due)
            .map(|(job, id)| async move { (self.deliveries.delivery(&job, &id).await, job, id) })
            .buffered(READS);
        let mut endpoints: BTreeMap<Endpoint, Vec<DeliveryRecord>> = BTreeMap::new();
        while let Some((read, job, id)) = found.next().await {
            match read {
                Ok(Some(event)) => endpoints.entry(endpoint(&event)).or_default().push(event),
                Ok(None) => {}
                Err(err) => delivered += Delivered::one(Err(err), &job, &id),
            }
        }
        let ours = endpoints.into_iter().filter_map(|(endpoint, events)| Some((busy.begin(endpoint)?, events)));
        let lanes: Vec<_> = ours.collect();
        let mut lanes = stream::iter(lanes)
            .map(|(served, events)| async move {
                let delivered = self.serve_endpoint(events).await;
                drop(served);
                delivered
            })
            .buffer_unordered(ENDPOINTS);
        while let Some(served) = lanes.next().await {
            delivered += served;
        }
        Ok(delivered)
    }

    /// The due events of one endpoint, a few at once, until it has had its time.
    async fn serve_endpoint(&self, events: Vec<DeliveryRecord>) -> Delivered {
        let began = self.clock.now();
        let silences = AtomicU32::new(0);
        let silences = &silences;
        let mut tries = stream::iter(events)
            .map(|event| async move {
                let (job, id) = (event.job_id.clone(), event.id.clone());
                let result = if silences.load(Ordering::Relaxed) >= SILENCES {
                    self.postpone(event).await
                } else if self.clock.now().duration_since(began) > ENDPOINT_TIME {
                    Ok(None)
                } else {
                    self.try_once(event, silences).await
                };
                Delivered::one(result, &job, &id)
            })
            .buffer_unordered(PER_ENDPOINT);
        let mut served = Delivered::default();
        while let Some(one) = tries.next().await {
            served += one;
        }
        served
    }

    async fn try_once(&self, event: DeliveryRecord, silences: &AtomicU32) -> Result<Option<Done>, StoreError> {
        let now = self.clock.now();
        // The index lags behind: what the row says counts.
        if !is_due(&event, now) {
            return Ok(None);
        }
        if event.tries >= MAX_LEASES {
            return self.give_up(event, "could not be sent").await.map(Some);
        }
        let leased = DeliveryRecord {
            due_at: now.checked_add(TRY_LEASE).ok(),
            tries: event.tries + 1,
            version: event.version + 1,
            ..event
        };
        if !self.commit(&leased).await? {
            return Ok(None);
        }
        let outcome = match self.request(&leased).await? {
            Some(request) => self.sender.send(request).await,
            None => SendOutcome::NotSent("event could not be written"),
        };
        match outcome {
            SendOutcome::Answered { .. } => silences.store(0, Ordering::Relaxed),
            SendOutcome::NotSent(_) => drop(silences.fetch_add(1, Ordering::Relaxed)),
        }
        let after = self.judge(leased, &outcome);
        let state = after.state;
        tracing::info!(
            job.id = %after.job_id,
            delivery.id = %after.id,
            delivery.tries = after.tries,
            delivery.state = state.as_str(),
            delivery.result = after.last_result.as_deref().unwrap_or_default(),
            "webhook tried"
        );
        self.record(after).await?;
        Ok(Some(Done::Ended(state)))
    }

    /// Puts an event off without a try, or gives it up where that has gone on for too long.
    async fn postpone(&self, event: DeliveryRecord) -> Result<Option<Done>, StoreError> {
        let now = self.clock.now();
        if !is_due(&event, now) {
            return Ok(None);
        }
        if now.duration_since(event.created_at) > MAX_AGE {
            return self.give_up(event, "no answer from the endpoint").await.map(Some);
        }
        let postponed = DeliveryRecord { due_at: now.checked_add(POSTPONED).ok(), version: event.version + 1, ..event };
        Ok(self.commit(&postponed).await?.then_some(Done::Postponed))
    }

    async fn give_up(&self, event: DeliveryRecord, why: &str) -> Result<Done, StoreError> {
        let version = event.version + 1;
        let last_result = event.last_result.clone().or_else(|| Some(why.to_owned()));
        self.record(DeliveryRecord { state: EventState::Failed, due_at: None, last_result, version, ..event }).await?;
        Ok(Done::Ended(EventState::Failed))
    }

    /// Changes the event alone. `false` when another tick was quicker.
    async fn commit(&self, event: &DeliveryRecord) -> Result<bool, StoreError> {
        match self.deliveries.commit_delivery(event).await {
            Ok(()) => Ok(true),
            Err(CommitError::Store(err)) => Err(err),
            Err(
                CommitError::Stale
                | CommitError::InsufficientCredits
                | CommitError::AlreadyInLedger
                | CommitError::KeyTaken
                | CommitError::TooManyOpen
                | CommitError::UploadGone,
            ) => Ok(false),
        }
    }

    /// The signed request. The job is as it was at the event, with a link made now.
    async fn request(&self, delivery: &DeliveryRecord) -> Result<Option<WebhookRequest>, StoreError> {
        let mut data: Job = (*delivery.data).clone();
        if data.status == JobStatus::Completed
            && let Some(record) = self.jobs.job(&delivery.job_id).await?
            && record.deletion.is_none()
            && let Some(output) = &record.output
        {
            let life = Duration::try_from(self.policy.link_life).unwrap_or_default();
            data.output_url = Some(self.objects.presign_get(&output.key, life, None).await?.0);
        }
        let event = WebhookEvent {
            event: delivery.event,
            delivery_id: delivery.id.clone(),
            created_at: delivery.created_at,
            sequence: delivery.sequence,
            data,
        };
        let Ok(body) = serde_json::to_vec(&event) else { return Ok(None) };
        let now = self.clock.now();
        let timestamp = now.to_string();
        let signing = self.signings.signing(&delivery.client).await?;
        let secret = |generation| webhook_secret(&self.master, &delivery.client, generation);
        let standard = |generation| sign_standard_webhook(&secret(generation), &delivery.id, now.as_second(), &body);
        let all: Vec<String> = signing.all_at(now).into_iter().map(standard).collect();
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("x-webhook-event", delivery.event.to_string()),
            ("x-webhook-delivery-id", delivery.id.to_string()),
            // Exactly one value: verifiers refuse another length.
            ("x-webhook-signature", sign_webhook(&secret(signing.current), &timestamp, &body)),
            ("webhook-id", delivery.id.to_string()),
            ("webhook-signature", all.join(" ")),
            ("webhook-timestamp", now.as_second().to_string()),
        ];
        if let Some(previous) = signing.previous_at(now) {
            headers.push(("x-webhook-signature-previous", sign_webhook(&secret(previous), &timestamp, &body)));
        }
        headers.push(("x-webhook-timestamp", timestamp));
        Ok(Some(WebhookRequest { url: delivery.url.clone(), headers, body: body.into() }))
    }

    /// 2xx is success, 410 ends it, everything else is tried again as the schedule says.
    fn judge(&self, delivery: DeliveryRecord, outcome: &SendOutcome) -> DeliveryRecord {
        let (done, retry_after, result) = match outcome {
            SendOutcome::Answered { status: 200..=299, .. } => (Some(EventState::Sent), None, None),
            SendOutcome::Answered { status: 410, .. } => {
                (Some(EventState::Failed), None, Some("status 410".to_owned()))
            }
            SendOutcome::Answered { status, retry_after } => (None, *retry_after, Some(format!("status {status}"))),
            SendOutcome::NotSent(why) => (None, None, Some((*why).to_owned())),
        };
        let jitter = self.entropy.bits()[0];
        let due_at = match done {
            Some(_) => None,
            None => next_try(delivery.tries, self.clock.now(), retry_after, jitter),
        };
        let state = done.unwrap_or(if due_at.is_some() { EventState::Pending } else { EventState::Failed });
        let mut attempts = delivery.attempts;
        attempts.push(DeliveryAttempt {
            at: self.clock.now(),
            status_code: match outcome {
                SendOutcome::Answered { status, .. } => Some(*status),
                SendOutcome::NotSent(_) => None,
            },
            result: result.clone().unwrap_or_else(|| "delivered".to_owned()),
        });
        let over = attempts.len().saturating_sub(ATTEMPTS);
        attempts.drain(..over);
        DeliveryRecord { state, due_at, last_result: result, attempts, version: delivery.version + 1, ..delivery }
    }

    /// The event's new state, and with it, in one transaction, what the job shows of it.
    async fn record(&self, delivery: DeliveryRecord) -> Result<(), StoreError> {
        for _ in 0..JUDGEMENTS {
            let job = self.jobs.job(&delivery.job_id).await?;
            let Some(job) = job.filter(|job| shows_otherwise(job, &delivery)) else { break };
            let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
            let mut change = context.edit(&job, |job| {
                job.events.insert(delivery.event.as_str().to_owned(), delivery.state);
            });
            change.delivery = Some(delivery.clone());
            match self.jobs.commit(change).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Store(err)) => return Err(err),
                Err(
                    CommitError::Stale
                    | CommitError::InsufficientCredits
                    | CommitError::AlreadyInLedger
                    | CommitError::KeyTaken
                    | CommitError::TooManyOpen
                    | CommitError::UploadGone,
                ) => {}
            }
            // The job changed, or the event did: then another tick, that took this one for lost, has recorded it.
            let stored = self.deliveries.delivery(&delivery.job_id, &delivery.id).await?;
            if stored.is_none_or(|stored| stored.version + 1 != delivery.version) {
                return Ok(());
            }
        }
        // The job shows it already, is gone, or changes all the time: not to send twice is worth more.
        self.commit(&delivery).await.map(drop)
    }
}

fn is_due(event: &DeliveryRecord, now: Timestamp) -> bool {
    event.state == EventState::Pending && event.due_at.is_some_and(|due| due <= now)
}

/// Whether the job's own account of this event is out of date. It tells of the current run's events only.
fn shows_otherwise(job: &JobRecord, delivery: &DeliveryRecord) -> bool {
    let of_this_run = job.queued_at.is_none_or(|queued| delivery.created_at >= queued);
    of_this_run && job.events.get(delivery.event.as_str()) != Some(&delivery.state)
}

fn endpoint(event: &DeliveryRecord) -> Endpoint {
    let origin = url::Url::parse(&event.url).map(|url| url.origin().ascii_serialization());
    (event.client.clone(), origin.unwrap_or_default())
}
