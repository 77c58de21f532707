//! An embedded AWS of its own for each test, and a network between it and the adapters that a test may disturb.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use futures::future::LocalBoxFuture;
use rotoless_aws::config::StaticCredentials;
use rotoless_aws::{AwsClients, Endpoints, Names, S3Objects, Settings, SqsQueue, Store, http_client};
use rotoless_embedded::template::{KeySpec, Resources, TableSpec};
use rotoless_embedded::{Embedded, EmbeddedConfig};
use secrecy::SecretString;

/// What becomes of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes through.
    Forward,
    /// It is done, and the reply is lost.
    LoseReply,
    /// It is lost, and nobody can know that.
    LoseRequest,
    /// The connection is refused.
    Refuse,
    /// Someone answers this instead.
    Answer(u16, String),
}

/// An AWS error answer: status and code.
pub(crate) fn error(status: u16, code: &str) -> Fate {
    Fate::Answer(status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"test"}}"#))
}

/// A cancelled transaction with these codes.
pub(crate) fn cancelled(codes: &[&str]) -> Fate {
    let reasons: Vec<String> = codes.iter().map(|code| format!(r#"{{"Code":"{code}"}}"#)).collect();
    let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    Fate::Answer(
        400,
        format!(r#"{{"__type":"{kind}","Message":"test","CancellationReasons":[{}]}}"#, reasons.join(",")),
    )
}

type Decide = dyn Fn(&Request) -> Fate + Send + Sync;

/// What a disturbance can see.
pub(crate) struct Request<'a> {
    /// `TransactWriteItems`, `GetItem`, …
    pub(crate) operation: &'a str,
    /// The body as sent.
    pub(crate) body: &'a str,
    /// How many requests of this operation came before it.
    pub(crate) before: u32,
}

struct Network {
    inner: SharedHttpClient,
    decide: Arc<Decide>,
    seen: Arc<AtomicU32>,
    watched: &'static str,
}

struct Line {
    inner: SharedHttpConnector,
    decide: Arc<Decide>,
    seen: Arc<AtomicU32>,
    watched: &'static str,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl HttpClient for Network {
    fn http_connector(&self, settings: &HttpConnectorSettings, parts: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Line {
            inner: self.inner.http_connector(settings, parts),
            decide: self.decide.clone(),
            seen: self.seen.clone(),
            watched: self.watched,
        })
    }
}

fn hang_up() -> ConnectorError {
    ConnectorError::io(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let operation = target.rsplit_once('.').map_or("", |(_, operation)| operation);
        if operation != self.watched {
            return self.inner.call(request);
        }
        let before = self.seen.fetch_add(1, Ordering::SeqCst);
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        match (self.decide)(&Request { operation, body: &body, before }) {
            Fate::Forward => self.inner.call(request),
            Fate::LoseReply => {
                let sent = self.inner.call(request);
                HttpConnectorFuture::new(async move {
                    sent.await?;
                    Err(hang_up())
                })
            }
            Fate::LoseRequest => HttpConnectorFuture::ready(Err(hang_up())),
            Fate::Refuse => {
                let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                HttpConnectorFuture::ready(Err(ConnectorError::io(refused.into())))
            }
            Fate::Answer(status, body) => {
                let status = StatusCode::try_from(status).unwrap();
                HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
            }
        }
    }
}

/// A test over DynamoDB: its name, and what it does in a fresh world.
pub(crate) type Scenario = (&'static str, fn(World) -> LocalBoxFuture<'static, ()>);

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) clients: AwsClients,
    pub(crate) store: Store,
    pub(crate) objects: S3Objects,
    pub(crate) queue: SqsQueue,
    _embedded: Embedded,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials =
            StaticCredentials { access_key: "test".to_owned(), secret_key: SecretString::from("secret".to_owned()) };
        let embedded = Embedded::start(EmbeddedConfig {
            data_dir: dir.path().join("data"),
            access_key: credentials.access_key.clone(),
            secret_key: credentials.secret_key.clone(),
            chaos: None,
            visibility_seconds: None,
        })
        .await
        .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let s3 = format!("http://{}", listener.local_addr().unwrap());
        let router = embedded.s3();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let names = embedded.names.clone();
        let settings = Settings {
            endpoints: Some(Endpoints {
                dynamodb: embedded.dynamodb_url.parse().unwrap(),
                sqs: embedded.sqs_url.parse().unwrap(),
                s3: s3.parse().unwrap(),
                public_s3: None,
            }),
            region: rotoless_embedded::REGION.to_owned(),
            credentials: Some(credentials),
            names: Names {
                keys: names.keys_table,
                accounts: names.accounts_table,
                jobs: names.jobs_table,
                idempotency: names.idempotency_table,
                deliveries: names.deliveries_table,
                limits: names.limits_table,
                usage: names.usage_table,
                bucket: names.media_bucket,
                jobs_queue_url: names.jobs_queue_url,
            },
        };
        Self::of(settings, embedded, dir).await
    }

    /// The same with the tables elsewhere: made there as `template.yaml` says, under names of their own.
    pub(crate) async fn start_with_dynamodb(url: &str, stack: &str) -> Self {
        let Self { mut settings, _embedded: embedded, _dir: dir, .. } = Self::start().await;
        settings.endpoints.as_mut().unwrap().dynamodb = url.parse().unwrap();
        let dynamodb = AwsClients::connect(&settings).await.dynamodb;
        let resources = Resources::of_stack(stack).unwrap();
        for table in &resources.tables {
            create(&dynamodb, table).await;
        }
        let names = &mut settings.names;
        for name in [
            &mut names.keys,
            &mut names.accounts,
            &mut names.jobs,
            &mut names.idempotency,
            &mut names.deliveries,
            &mut names.limits,
            &mut names.usage,
        ] {
            let own = name.replacen(rotoless_embedded::STACK, stack, 1);
            assert!(resources.tables.iter().any(|table| table.name == own), "{own}");
            *name = own;
        }
        Self::of(settings, embedded, dir).await
    }

    async fn of(settings: Settings, embedded: Embedded, dir: tempfile::TempDir) -> Self {
        let clients = AwsClients::connect(&settings).await;
        Self {
            store: Store::new(clients.dynamodb.clone(), settings.names.clone()),
            objects: S3Objects::new(&clients, &settings.names.bucket),
            queue: SqsQueue::new(clients.sqs.clone(), &settings.names.jobs_queue_url),
            clients,
            settings,
            _embedded: embedded,
            _dir: dir,
        }
    }

    /// The same tables as another process sees them: with a memory of its own.
    pub(crate) fn another_process(&self) -> Store {
        Store::new(self.clients.dynamodb.clone(), self.settings.names.clone())
    }

    /// The same tables behind a network that does this to every request of one operation; and how many came.
    pub(crate) async fn disturbed(
        &self,
        watched: &'static str,
        decide: impl Fn(&Request) -> Fate + Send + Sync + 'static,
    ) -> (Store, Arc<AtomicU32>) {
        let seen = Arc::new(AtomicU32::new(0));
        let network = Network { inner: http_client(), decide: Arc::new(decide), seen: seen.clone(), watched };
        let clients = AwsClients::with_http_client(&self.settings, SharedHttpClient::new(network)).await;
        (Store::new(clients.dynamodb, self.settings.names.clone()), seen)
    }
}

async fn create(dynamodb: &aws_sdk_dynamodb::Client, table: &TableSpec) {
    let attributes = table.attributes.iter().map(|(name, kind)| {
        let kind = ScalarAttributeType::from(kind.as_str());
        AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
    });
    let indexes = table.indexes.iter().map(|index| {
        let projection = Projection::builder().projection_type(ProjectionType::from(index.projection.as_str()));
        let built = GlobalSecondaryIndex::builder().index_name(&index.name).set_key_schema(Some(schema(&index.key)));
        built.projection(projection.build()).build().unwrap()
    });
    let indexes: Vec<_> = indexes.collect();
    dynamodb
        .create_table()
        .table_name(&table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes.collect()))
        .set_key_schema(Some(schema(&table.key)))
        .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes))
        // A Java machine that has just started is slower than any DynamoDB.
        .customize()
        .config_override(aws_sdk_dynamodb::config::Builder::new().timeout_config(patience()))
        .send()
        .await
        .unwrap();
}

fn patience() -> TimeoutConfig {
    let minute = Duration::from_secs(60);
    TimeoutConfig::builder().operation_attempt_timeout(minute).operation_timeout(minute).build()
}

fn schema(key: &KeySpec) -> Vec<KeySchemaElement> {
    let element =
        |name: &String, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    let sort = key.sort.as_ref().map(|name| element(name, KeyType::Range));
    std::iter::once(element(&key.partition, KeyType::Hash)).chain(sort).collect()
}
