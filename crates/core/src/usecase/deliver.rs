//! Deliver: sends the webhook events whose time has come. An event is leased before it is sent, so two ticks do
//! not send it at once; a crash after the lease delays it by [`TRY_LEASE`], it never loses it.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rotoless_contract::job::EventState;
use rotoless_contract::signature::{sign_standard_webhook, sign_webhook, webhook_secret};
use rotoless_contract::webhook::WebhookEvent;
use rotoless_contract::{DeliveryId, Job, JobId, JobStatus};
use secrecy::SecretString;

use super::change::Context;
use super::{JUDGEMENTS, Missed};
use crate::policy::Policy;
use crate::ports::{
    Clock, CommitError, Deliveries, Entropy, Jobs, Objects, SendOutcome, StoreError, WebhookRequest, WebhookSender,
};
use crate::record::DeliveryRecord;
use crate::schedule::next_try;

/// Events looked at in one tick.
const BATCH: u32 = 50;
/// A try that has not been recorded after this long counts as lost. Longer than an exchange may last.
const TRY_LEASE: SignedDuration = SignedDuration::from_secs(60);

/// Sends webhooks.
pub struct Deliver {
    /// Events.
    pub deliveries: Arc<dyn Deliveries>,
    /// Their jobs.
    pub jobs: Arc<dyn Jobs>,
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
}

impl Deliver {
    /// One tick over the due events.
    ///
    /// # Errors
    /// [`StoreError`] when the due events cannot be listed.
    pub async fn tick(&self) -> Result<Delivered, StoreError> {
        let mut delivered = Delivered::default();
        for (job, id) in self.deliveries.due_deliveries(self.clock.now(), BATCH).await? {
            match self.try_once(&job, &id).await {
                Ok(Some(EventState::Sent)) => delivered.sent += 1,
                Ok(Some(EventState::Pending)) => delivered.retried += 1,
                Ok(Some(EventState::Failed)) => delivered.given_up += 1,
                Ok(None) => {}
                Err(err) => {
                    tracing::error!(job.id = %job, delivery.id = %id, error = %err, "delivery not recorded");
                }
            }
        }
        Ok(delivered)
    }

    async fn try_once(&self, job: &JobId, id: &DeliveryId) -> Result<Option<EventState>, StoreError> {
        let Some(delivery) = self.deliveries.delivery(job, id).await? else { return Ok(None) };
        let now = self.clock.now();
        if delivery.state != EventState::Pending || delivery.due_at.is_none_or(|due| due > now) {
            return Ok(None);
        }
        let leased = DeliveryRecord {
            due_at: now.checked_add(TRY_LEASE).ok(),
            tries: delivery.tries + 1,
            version: delivery.version + 1,
            ..delivery
        };
        match self.deliveries.commit_delivery(&leased).await {
            Ok(()) => {}
            Err(CommitError::Store(err)) => return Err(err),
            Err(_) => return Ok(None),
        }
        let outcome = match self.request(&leased).await? {
            Some(request) => self.sender.send(request).await,
            None => SendOutcome::NotSent("event could not be written"),
        };
        let after = self.judge(leased, &outcome);
        let state = after.state;
        self.record(after).await?;
        Ok(Some(state))
    }

    /// The signed request. The job is as it was at the event, with a link made now.
    async fn request(&self, delivery: &DeliveryRecord) -> Result<Option<WebhookRequest>, StoreError> {
        let mut data: Job = (*delivery.data).clone();
        if data.status == JobStatus::Completed
            && let Some(record) = self.jobs.job(&delivery.job_id).await?
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
        let secret = webhook_secret(&self.master, &delivery.client);
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("x-webhook-event", delivery.event.to_string()),
            ("x-webhook-delivery-id", delivery.id.to_string()),
            ("x-webhook-signature", sign_webhook(&secret, &timestamp, &body)),
            ("x-webhook-timestamp", timestamp),
            ("webhook-id", delivery.id.to_string()),
            ("webhook-signature", sign_standard_webhook(&secret, &delivery.id, now.as_second(), &body)),
            ("webhook-timestamp", now.as_second().to_string()),
        ];
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
        DeliveryRecord { state, due_at, last_result: result, version: delivery.version + 1, ..delivery }
    }

    /// The event's new state, on the event and on its job together.
    async fn record(&self, delivery: DeliveryRecord) -> Result<(), StoreError> {
        for _ in 0..JUDGEMENTS {
            let Some(job) = self.jobs.job(&delivery.job_id).await? else {
                return swallow_stale(self.deliveries.commit_delivery(&delivery).await);
            };
            let context = Context { now: self.clock.now(), policy: &self.policy, entropy: &*self.entropy };
            let mut change = context.edit(&job, |job| {
                job.events.insert(delivery.event.as_str().to_owned(), delivery.state);
            });
            change.delivery = Some(delivery.clone());
            match self.jobs.commit(change).await.map_err(Missed::from) {
                Ok(()) => return Ok(()),
                Err(Missed::Again | Missed::Credits) => {}
                Err(Missed::Store(err)) => return Err(err),
            }
        }
        Ok(())
    }
}

/// Another tick was quicker: its record stands.
fn swallow_stale(result: Result<(), CommitError>) -> Result<(), StoreError> {
    match result {
        Err(CommitError::Store(err)) => Err(err),
        Ok(()) | Err(_) => Ok(()),
    }
}
