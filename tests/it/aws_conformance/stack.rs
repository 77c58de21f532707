//! The embedded AWS with its bucket on a public port, and SDK clients of it.

use aws_credential_types::Credentials;
use aws_sdk_sqs::config::SharedHttpClient;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use rotoless_embedded::{Embedded, EmbeddedConfig};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

pub(super) const ACCESS_KEY: &str = "ROTOLESSCONFORMANCE";
pub(crate) const SECRET_KEY: &str = "known to the tests only";

/// Clients of one AWS.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
}

/// Where the services answer; none of them: at AWS.
#[derive(Default)]
pub(crate) struct Endpoints {
    pub(crate) dynamodb: Option<String>,
    pub(crate) s3: Option<String>,
    pub(crate) sqs: Option<String>,
}

impl Clients {
    pub(crate) fn new(endpoints: Endpoints, region: &str, credentials: Credentials) -> Self {
        let http = http_client();
        macro_rules! client {
            ($sdk:ident, $endpoint:expr $(, $more:ident($value:expr))*) => {{
                let mut config = $sdk::Config::builder()
                    .behavior_version($sdk::config::BehaviorVersion::latest())
                    .region($sdk::config::Region::new(region.to_owned()))
                    .credentials_provider(credentials.clone())
                    .http_client(http.clone())
                    $(.$more($value))*;
                config.set_endpoint_url($endpoint);
                $sdk::Client::from_conf(config.build())
            }};
        }
        let path_style = endpoints.s3.is_some();
        Self {
            dynamodb: client!(aws_sdk_dynamodb, endpoints.dynamodb),
            s3: client!(aws_sdk_s3, endpoints.s3, force_path_style(path_style)),
            sqs: client!(aws_sdk_sqs, endpoints.sqs),
        }
    }
}

pub(super) fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

pub(crate) fn credentials() -> Credentials {
    Credentials::from_keys(ACCESS_KEY, SECRET_KEY, None)
}

/// An embedded AWS of its own for one test.
pub(super) struct Stack {
    pub(super) clients: Clients,
    pub(super) embedded: Embedded,
    _dir: tempfile::TempDir,
}

pub(crate) fn config(data_dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        data_dir: data_dir.to_owned(),
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned().into(),
        chaos: None,
        visibility_seconds: None,
    }
}

impl Stack {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::start(config(dir.path())).await.unwrap();
        let s3_url = serve_s3(&embedded).await;
        let clients = clients(&embedded, &s3_url);
        Self { clients, embedded, _dir: dir }
    }
}

/// Mounts the bucket on a port of its own; ends with the test's runtime.
pub(crate) async fn serve_s3(embedded: &Embedded) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = embedded.s3();
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

pub(crate) fn clients(embedded: &Embedded, s3_url: &str) -> Clients {
    let endpoints = Endpoints {
        dynamodb: Some(embedded.dynamodb_url.clone()),
        s3: Some(s3_url.to_owned()),
        sqs: Some(embedded.sqs_url.clone()),
    };
    Clients::new(endpoints, rotoless_embedded::REGION, credentials())
}

/// Tries until `check` gives something, at most `limit`.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(limit: Duration, mut check: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "did not come true within {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A name nobody else has.
pub(super) fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{nanos:x}-{:x}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}
