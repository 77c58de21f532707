//! The SDK's clients, built once a process.
//!
//! Owns: HTTP and TLS (rustls with ring), time-outs, who retries. Does not own: names of tables and such.
//!
//! Invariant: each dependency has one owner of retries. DynamoDB's are ours (`retry`), because only we know that a
//! repeated transaction needs the same token; those of S3, SQS and ECS are the SDK's.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{Region, RequestChecksumCalculation, SharedHttpClient};
use aws_smithy_http_client::tls;
use secrecy::ExposeSecret;
use url::Url;

use crate::config::Settings;
use crate::meter::CallMeter;

/// Connections that are idle for longer are not used again: a frozen Lambda sandbox finds them dead.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);

/// One client for each service, and one more for S3 as clients and workers reach it.
#[derive(Debug, Clone)]
pub struct AwsClients {
    /// DynamoDB, without retries.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// ECS, at AWS's own endpoint: what is asked of it elsewhere is its waker's setting.
    pub ecs: aws_sdk_ecs::Client,
    /// S3 as this process reaches it.
    pub s3: aws_sdk_s3::Client,
    /// Presigns for the public endpoint; never sends.
    pub s3_presign: aws_sdk_s3::Client,
    /// SQS.
    pub sqs: aws_sdk_sqs::Client,
}

/// The HTTP client that all of them share.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(IDLE_CONNECTION)
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https()
}

impl AwsClients {
    /// Builds the clients. Nothing is sent yet.
    pub async fn connect(settings: &Settings) -> Self {
        Self::with_http_client(settings, http_client()).await
    }

    /// The same, with every call but presigning counted.
    pub async fn metered(settings: &Settings, meter: &CallMeter) -> Self {
        Self::build(settings, http_client(), Some(meter)).await
    }

    /// The same over another HTTP client: tests put one in between that loses replies.
    pub async fn with_http_client(settings: &Settings, http: SharedHttpClient) -> Self {
        Self::build(settings, http, None).await
    }

    async fn build(settings: &Settings, http: SharedHttpClient, meter: Option<&CallMeter>) -> Self {
        let region = Region::new(settings.region.clone());
        let credentials = credentials(settings, &region, &http).await;
        let endpoints = settings.endpoints.as_ref();
        let s3_url = endpoints.map(|e| &e.s3);
        let public_s3_url = endpoints.map(|e| e.public_s3.as_ref().unwrap_or(&e.s3));

        let mut dynamodb = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region.clone())
            .credentials_provider(credentials.clone())
            .http_client(http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(1, 3, 3));
        let mut sqs = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region.clone())
            .credentials_provider(credentials.clone())
            .http_client(http.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(3).with_max_backoff(Duration::from_secs(1)))
            .timeout_config(timeouts(1, 3, 5));
        let s3 = |url: Option<&Url>| {
            let config = aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(region.clone())
                .credentials_provider(credentials.clone())
                .http_client(http.clone())
                .retry_config(RetryConfig::standard().with_max_attempts(4).with_max_backoff(Duration::from_secs(1)))
                .timeout_config(timeouts(2, 30, 60));
            match url {
                // Virtual-host addressing needs DNS for every bucket, which one machine does not have.
                Some(url) => config.endpoint_url(url.as_str()).force_path_style(true),
                None => config,
            }
        };
        let ecs = aws_sdk_ecs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region.clone())
            .credentials_provider(credentials.clone())
            .http_client(http.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(2).with_max_backoff(Duration::from_secs(1)))
            .timeout_config(timeouts(1, 4, 5));
        let mut s3_here = s3(s3_url);
        if let Some(meter) = meter {
            dynamodb = dynamodb.interceptor(meter.clone());
            sqs = sqs.interceptor(meter.clone());
            s3_here = s3_here.interceptor(meter.clone());
        }
        Self {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(match endpoints {
                Some(e) => dynamodb.endpoint_url(e.dynamodb.as_str()).build(),
                None => dynamodb.build(),
            }),
            ecs: aws_sdk_ecs::Client::from_conf(ecs.build()),
            sqs: aws_sdk_sqs::Client::from_conf(match endpoints {
                Some(e) => sqs.endpoint_url(e.sqs.as_str()).build(),
                None => sqs.build(),
            }),
            s3: aws_sdk_s3::Client::from_conf(s3_here.build()),
            s3_presign: aws_sdk_s3::Client::from_conf(
                // Who uses the link knows no checksum of ours: it must not be among the signed headers.
                s3(public_s3_url).request_checksum_calculation(RequestChecksumCalculation::WhenRequired).build(),
            ),
        }
    }
}

async fn credentials(settings: &Settings, region: &Region, http: &SharedHttpClient) -> SharedCredentialsProvider {
    if let Some(fixed) = &settings.credentials {
        let secret = fixed.secret_key.expose_secret();
        return SharedCredentialsProvider::new(Credentials::from_keys(&fixed.access_key, secret, None));
    }
    let config =
        aws_config::defaults(BehaviorVersion::latest()).region(region.clone()).http_client(http.clone()).load().await;
    // The loader always sets the default chain; a config without one fails at the first call, not here.
    config.credentials_provider().unwrap_or_else(|| SharedCredentialsProvider::new(Missing))
}

/// Stands where the default chain should be, and says so.
#[derive(Debug)]
struct Missing;

impl aws_credential_types::provider::ProvideCredentials for Missing {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let missing = aws_credential_types::provider::error::CredentialsError::not_loaded("no provider is configured");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(missing))
    }
}

/// Seconds to connect, for one try, and for all tries of a call together.
fn timeouts(connect: u64, attempt: u64, operation: u64) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(connect))
        .operation_attempt_timeout(Duration::from_secs(attempt))
        .operation_timeout(Duration::from_secs(operation))
        .build()
}
