//! A customer's endpoint: answers as it is told, and checks every request as a customer would, by the published
//! rules and not by our own signing code.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rotoless_contract::signature::webhook_secret;
use rotoless_contract::webhook::WebhookEvent;
use rotoless_core::ports::{SendOutcome, WebhookRequest, WebhookSender};
use rotoless_core::usecase::Deliver;
use secrecy::ExposeSecret;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::world::World;

/// One request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) url: String,
    pub(crate) signed_at: Timestamp,
    pub(crate) signature: String,
    pub(crate) event: WebhookEvent,
}

pub(crate) struct Receiver {
    secret: String,
    /// Answers to the next requests; then `usually`.
    answers: Mutex<VecDeque<SendOutcome>>,
    usually: SendOutcome,
    seen: Mutex<Vec<Seen>>,
    /// Requests to URLs that contain `slow` wait for a permit.
    pub(crate) slow: Semaphore,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

pub(crate) const fn status(status: u16) -> SendOutcome {
    SendOutcome::Answered { status, retry_after: None }
}

impl Receiver {
    pub(crate) fn new(world: &World, answers: impl IntoIterator<Item = SendOutcome>, usually: SendOutcome) -> Self {
        Self {
            secret: webhook_secret(&world.master, &world.client, 0).expose_secret().to_owned(),
            answers: Mutex::new(answers.into_iter().collect()),
            usually,
            seen: Mutex::default(),
            slow: Semaphore::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }
}

impl World {
    pub(crate) fn deliver(&self, sender: std::sync::Arc<dyn WebhookSender>) -> Deliver {
        Deliver {
            signings: self.store.clone(),
            deliveries: self.store.clone(),
            jobs: self.store.clone(),
            objects: self.store.clone(),
            sender,
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            policy: self.policy.clone(),
            master: self.master.clone(),
        }
    }
}

#[async_trait]
impl WebhookSender for Receiver {
    async fn send(&self, request: WebhookRequest) -> SendOutcome {
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let seen = verify(&self.secret, &request);
        self.seen.lock().unwrap().push(seen);
        // Another task gets its turn in the middle of every exchange.
        tokio::task::yield_now().await;
        if request.url.contains("slow") {
            self.slow.acquire().await.unwrap().forget();
        }
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.answers.lock().unwrap().pop_front().unwrap_or_else(|| self.usually.clone())
    }
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// G-22: both styles, over the exact bytes.
fn verify(secret: &str, request: &WebhookRequest) -> Seen {
    let header = |name: &str| {
        let values: Vec<&str> =
            request.headers.iter().filter(|(found, _)| *found == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(values.len(), 1, "{name}");
        values[0]
    };
    let signed = |head: String| [head.as_bytes(), &request.body[..]].concat();

    let timestamp = header("x-webhook-timestamp");
    let hex = hex::encode(mac(secret.as_bytes(), &signed(format!("{timestamp}."))));
    assert_eq!(header("x-webhook-signature"), format!("sha256={hex}"));

    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    assert!((24..=64).contains(&key.len()), "Standard Webhooks asks for 24 to 64 bytes");
    let (id, seconds) = (header("webhook-id"), header("webhook-timestamp"));
    let base64 = STANDARD.encode(mac(&key, &signed(format!("{id}.{seconds}."))));
    assert_eq!(header("webhook-signature"), format!("v1,{base64}"));

    let event: WebhookEvent = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((header("x-webhook-delivery-id"), header("x-webhook-event")), (id, event.event.as_str()));
    assert_eq!((event.delivery_id.as_str(), header("content-type")), (id, "application/json"));
    let signed_at: Timestamp = timestamp.parse().unwrap();
    assert_eq!(signed_at.as_second().to_string(), seconds);
    let signature = header("x-webhook-signature").to_owned();
    Seen { url: request.url.clone(), signed_at, signature, event }
}
