//! Lambda function: webhooks out.
//!
//! Owns: the way from the port [`WebhookSender`] to [`Egress`], and what `Retry-After` may say. Does not own: which
//! event is sent when (`rotoless_core::usecase::Deliver`), which URLs may be opened (`rotoless_egress`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use rotoless_core::ports::{SendOutcome, StoreError, WebhookRequest, WebhookSender};
use rotoless_core::usecase::Delivered;
use rotoless_egress::{Egress, EgressError, InvalidException, Limits, Policy};
use rotoless_telemetry::Metric;
use tokio::time::Instant;

pub mod config;

/// Between two looks at what is due.
const NEXT_TICK: Duration = Duration::from_secs(1);
/// Ticks at once: one more a second, each for at most about twenty.
const MOST_TICKS: usize = 24;

/// Sends webhooks to the public internet, and to the operator's exceptions.
#[derive(Clone)]
pub struct EgressSender {
    egress: Arc<Egress>,
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An exception cannot be read.
    #[error(transparent)]
    Exception(#[from] InvalidException),
    /// The client cannot be made.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

impl EgressSender {
    /// A sender that reaches public https endpoints and, also by plain http, `allow_dangerous`: `HOST:PORT`,
    /// `ADDRESS`, `NETWORK/BITS`. Whoever may create a job can make this process speak to those.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(allow_dangerous: &[String]) -> Result<Self, SetupError> {
        let exceptions = allow_dangerous.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let policy = Policy { allow_http: false, allow_addresses_dangerous: exceptions };
        Ok(Self::over(Egress::new(policy, Limits::default())?))
    }

    /// A sender over an egress of the caller's making.
    #[must_use]
    pub fn over(egress: Egress) -> Self {
        Self { egress: Arc::new(egress) }
    }
}

#[async_trait]
impl WebhookSender for EgressSender {
    async fn send(&self, request: WebhookRequest) -> SendOutcome {
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match self.egress.post(&request.url, &headers, request.body).await {
            Ok(answer) => SendOutcome::Answered {
                status: answer.status,
                retry_after: answer.retry_after.and_then(|text| retry_after(&text, Timestamp::now())),
            },
            Err(err) => {
                if matches!(err, EgressError::Setup(_) | EgressError::Header) {
                    tracing::error!(error = %err, "webhook could not be sent");
                }
                SendOutcome::NotSent(err.in_words())
            }
        }
    }
}

/// Seconds that a `Retry-After` asks for: a number, or an HTTP date (one in the past asks for none). Anything else
/// says nothing. How much of it is honoured is the schedule's business.
#[must_use]
pub fn retry_after(text: &str, now: Timestamp) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Only overflow can fail here: longer than anybody waits.
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(u64::try_from(at.duration_since(now).as_secs()).unwrap_or(0))
}

/// Runs `tick` until nothing is due or `budget` is used up. After a try that failed it stays for the tries that follow
/// within seconds: the schedule that calls it knows minutes only. Ticks run beside one another, because each lasts as
/// long as its slowest endpoint and nobody else is to wait for that.
///
/// # Errors
/// [`StoreError`] when the due events cannot be listed.
pub async fn drain<Tick>(tick: impl Fn() -> Tick, budget: Duration) -> Result<Delivered, StoreError>
where
    Tick: Future<Output = Result<Delivered, StoreError>>,
{
    let began = Instant::now();
    let mut total = Delivered::default();
    let mut ticks = FuturesUnordered::new();
    ticks.push(tick());
    loop {
        let is_time_left = began.elapsed() < budget;
        tokio::select! {
            biased;
            Some(ticked) = ticks.next() => {
                let ticked = ticked?;
                total += ticked;
                // What could not be recorded comes again a minute later, not at once.
                let moved = !Delivered { failed: 0, ..ticked }.is_idle();
                match (is_time_left, ticks.is_empty()) {
                    (true, _) if moved => ticks.push(tick()),
                    (true, true) if total.retried > 0 => {
                        tokio::time::sleep(NEXT_TICK).await;
                        ticks.push(tick());
                    }
                    (_, true) => return Ok(total),
                    (_, false) => {}
                }
            }
            () = tokio::time::sleep(NEXT_TICK), if is_time_left && ticks.len() < MOST_TICKS => {
                ticks.push(tick());
            }
        }
    }
}

/// What is counted of a tick, or of several, that came to an end.
#[must_use]
pub fn figures(done: &Delivered) -> [(Metric, f64); 4] {
    [
        (Metric::DeliverHeartbeat, 1.0),
        (Metric::DeliveriesSent, f64::from(done.sent)),
        (Metric::DeliveriesRetried, f64::from(done.retried)),
        (Metric::DeliveriesGivenUp, f64::from(done.given_up)),
    ]
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// G-24, TD-5.
    #[test]
    fn retry_after_is_a_number_or_a_date_and_nothing_else() {
        let now: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("30", Some(30)),
            (" 0 ", Some(0)),
            ("1000000000", Some(1_000_000_000)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("Sun, 22 Nov 2026 03:02:00 GMT", Some(120)),
            ("Sun, 22 Nov 2026 02:00:00 GMT", Some(0)),
            ("-1", None),
            ("+5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("Sun, 99 Nov 2026 03:02:00 GMT", None),
            ("12 34", None),
        ] {
            assert_eq!(retry_after(text, now), seconds, "{text:?}");
        }
    }

    /// Ticks that take these many seconds and find something due, or not; then nothing is due any more.
    async fn drained(script: &[(u64, bool)]) -> (Vec<u64>, Duration) {
        let (began, starts) = (Instant::now(), std::cell::RefCell::new(Vec::new()));
        let tick = || {
            let number = starts.borrow().len();
            starts.borrow_mut().push(began.elapsed().as_secs());
            let (seconds, finds) = script.get(number).copied().unwrap_or((0, false));
            async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok(Delivered { sent: u32::from(finds), ..Delivered::default() })
            }
        };
        drain(tick, Duration::from_secs(25)).await.unwrap();
        (starts.take(), began.elapsed())
    }

    /// G-23
    #[tokio::test(start_paused = true)]
    async fn a_tick_that_waits_for_a_slow_endpoint_holds_up_no_other() {
        let (starts, took) = drained(&[(20, true), (0, true)]).await;
        assert_eq!(starts[..3], [0, 1, 1], "the second finds something, so the third begins at once");
        assert!(starts.iter().filter(|start| **start <= 20).count() >= 20, "{starts:?}");
        assert!(took >= Duration::from_secs(20) && took < Duration::from_secs(22), "{took:?}");
    }

    #[test]
    fn a_tick_without_work_is_a_sign_of_life_and_a_tick_with_work_says_what_came_of_it() {
        assert_eq!(figures(&Delivered::default()).map(|(_, figure)| figure), [1.0, 0.0, 0.0, 0.0]);
        let done = Delivered { sent: 3, retried: 2, given_up: 1, postponed: 9, failed: 9 };
        assert_eq!(figures(&done).map(|(_, figure)| figure), [1.0, 3.0, 2.0, 1.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_end_when_nothing_is_due_and_when_the_time_is_used_up() {
        assert_eq!(drained(&[]).await.0, [0]);
        assert_eq!(drained(&[(0, true), (0, true)]).await.0, [0, 0, 0]);
        let (starts, took) = drained(&[(20, true); 100]).await;
        assert!(starts.iter().all(|start| *start <= 25) && took <= Duration::from_secs(45), "{starts:?} {took:?}");
    }

    #[test]
    fn an_exception_that_cannot_be_read_stops_the_start() {
        let refused = EgressSender::new(&["http://127.0.0.1".to_owned()]);
        assert!(matches!(refused, Err(SetupError::Exception(_))));
    }

    /// TD-4, TD-5: the whole way out, over a real socket.
    #[tokio::test]
    async fn a_sender_reaches_its_exceptions_and_nothing_else_on_this_machine() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{\"a\":1}") {
                request.push(stream.read_u8().await.unwrap());
            }
            let reply = b"HTTP/1.1 503 Later\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(reply).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let request = |url: String| WebhookRequest {
            url,
            headers: vec![("content-type", "application/json".to_owned()), ("webhook-id", "evt_1".to_owned())],
            body: bytes::Bytes::from_static(b"{\"a\":1}"),
        };
        let policy = |exceptions: &[String]| Policy {
            allow_http: false,
            allow_addresses_dangerous: exceptions.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let sender = |exceptions: &[String]| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let tls = tls.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
            let resolver = Arc::new(rotoless_egress::SystemResolver);
            EgressSender::over(Egress::with(policy(exceptions), Limits::default(), resolver, tls))
        };
        let url = format!("http://{address}/hook?secret=1");
        let refused = sender(&[]).send(request(url.clone())).await;
        assert_eq!(refused, SendOutcome::NotSent("address not allowed"));
        let allowed = sender(&[address.to_string()]);
        assert_eq!(
            allowed.send(request(url.clone())).await,
            SendOutcome::Answered { status: 503, retry_after: Some(7) }
        );
        let received = receiver.await.unwrap();
        assert!(received.contains("webhook-id: evt_1\r\n"), "{received}");
        // Nobody listens there any more.
        assert_eq!(allowed.send(request(url)).await, SendOutcome::NotSent("connection refused"));
    }
}
