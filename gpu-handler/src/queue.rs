//! The queue: receive one message, keep it, let it go, delete it.
//!
//! Owns: the SQS client and what its errors mean. Does not own: what the message says (`session`).
//! Invariant: a receipt that is not ours any more is [`QueueError::StaleReceipt`], never a failure of the job.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::{
    BehaviorVersion, Region, SharedCredentialsProvider, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::timing::Timing;

/// Codes that say "this receipt is not, or no longer, the one of a message in flight with you".
const STALE: &[&str] = &[
    "ReceiptHandleIsInvalid",
    "MessageNotInflight",
    // Also sent for a message that is gone; the numbers that we send are always in range.
    "InvalidParameterValue",
    "InvalidParameterValueException",
];

/// Proof that a message is in flight with us.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Receipt(String);

impl Receipt {
    /// As somebody else received it for us.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt(..)")
    }
}

/// A message in flight with us.
pub(crate) struct Received {
    /// The queue's name for it, for logs.
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) receipt: Receipt,
}

/// Why the queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    /// The message is somebody else's, or gone.
    #[error("the receipt is no longer valid")]
    StaleReceipt,
    /// May pass by itself, or not: the next session finds out.
    #[error("the queue is unavailable ({code})")]
    Unavailable {
        code: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// How the queue is reached.
#[derive(Clone)]
pub(crate) struct QueueSettings {
    pub(crate) url: String,
    pub(crate) region: String,
    /// Another endpoint than AWS's own.
    pub(crate) endpoint: Option<String>,
    /// None: requests go unsigned, which only AWS's answer can judge.
    pub(crate) credentials: Option<SharedCredentialsProvider>,
}

/// One queue.
#[derive(Clone)]
pub(crate) struct Queue {
    client: Client,
    url: String,
    visibility: Duration,
    retry_first: Duration,
    retry_cap: Duration,
}

impl Queue {
    /// A client of its own: threads that must not wait for one another do not share connections.
    pub(crate) fn new(settings: &QueueSettings, clock: &Clock, timing: &Timing) -> Self {
        let mut config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(settings.region.clone()))
            .http_client(http_client())
            // The SDK learns from each answer how wrong it is: after the first refusal it signs with the server's.
            .time_source(clock.host())
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .operation_timeout(timing.receive_wait + timing.call)
                    .build(),
            );
        config.set_endpoint_url(settings.endpoint.clone()).set_credentials_provider(settings.credentials.clone());
        Self {
            client: Client::from_conf(config.build()),
            url: settings.url.clone(),
            visibility: timing.visibility,
            retry_first: timing.retry_first,
            retry_cap: timing.retry_cap,
        }
    }

    /// Waits at most `wait` for a message.
    pub(crate) async fn receive(&self, wait: Duration) -> Result<Option<Received>, QueueError> {
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(1)
            .wait_time_seconds(whole_seconds(wait))
            .visibility_timeout(whole_seconds(self.visibility));
        let output = request.send().await;
        let message = output.map_err(classify)?.messages.unwrap_or_default().pop();
        Ok(message.and_then(|message| {
            let receipt = Receipt(message.receipt_handle?);
            Some(Received {
                id: message.message_id.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                receipt,
            })
        }))
    }

    /// Keeps the message invisible for the whole visibility from now on.
    pub(crate) async fn extend(&self, receipt: &Receipt) -> Result<(), QueueError> {
        self.set_visibility(receipt, self.visibility).await
    }

    /// Makes the message visible again after `after`.
    pub(crate) async fn release(&self, receipt: &Receipt, after: Duration) -> Result<(), QueueError> {
        self.set_visibility(receipt, after).await
    }

    async fn set_visibility(&self, receipt: &Receipt, timeout: Duration) -> Result<(), QueueError> {
        let request = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(&receipt.0)
            .visibility_timeout(whole_seconds(timeout));
        request.send().await.map(drop).map_err(classify)
    }

    /// Deletes the message, with a few tries: if all fail it is delivered again and the claim finds the job ended.
    pub(crate) async fn delete(&self, receipt: &Receipt) -> Result<(), QueueError> {
        let mut backoff = Backoff::new(self.retry_first, self.retry_cap);
        let mut tries = 0;
        loop {
            let request = self.client.delete_message().queue_url(&self.url).receipt_handle(&receipt.0);
            let error = match request.send().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let error = classify(error);
            tries += 1;
            if matches!(error, QueueError::StaleReceipt) || tries >= 4 {
                return Err(error);
            }
            tokio::time::sleep(backoff.wait(None)).await;
        }
    }
}

/// An HTTP client for the AWS SDK, on ring.
pub(crate) fn http_client() -> aws_sdk_sqs::config::SharedHttpClient {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

fn classify<E>(error: SdkError<E, HttpResponse>) -> QueueError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let code = error.code().map(|code| code.rsplit('.').next().unwrap_or(code).to_owned());
    match code {
        Some(code) if STALE.contains(&code.as_str()) => QueueError::StaleReceipt,
        code => QueueError::Unavailable { code: code.unwrap_or_else(|| "no answer".to_owned()), source: error.into() },
    }
}

/// SQS counts in whole seconds. Rounded up, so that a short wait does not become none.
fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}
