//! A service of its own for each test: the router over an embedded AWS and a clock that is set by hand, a job that
//! waits, and a worker that signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use futures::stream;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use rotoless_aws::config::StaticCredentials;
use rotoless_aws::system::SystemEntropy;
use rotoless_aws::wakers::InProcessWaker;
use rotoless_aws::{AwsClients, CallMeter, Endpoints, HeaderProbe, Names, S3Objects, Settings, SqsQueue, Store};
use rotoless_callback::{CallbackState, Secrets, SignsOfLife, router};
use rotoless_contract::api::JobRequest;
use rotoless_contract::manifest::{Manifest, output_key};
use rotoless_contract::media::{InputInfo, OutputInfo};
use rotoless_contract::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sha256_hex, sign_call};
use rotoless_contract::worker::{ClaimReply, ClaimRequest, ProbedRequest, ReportRequest, attempt_path, claim_path};
use rotoless_contract::{ClientId, JobId, MilliCredits};
use rotoless_core::ledger::Balance;
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Accounts as _, Clock, Jobs, UploadSink as _, UrlPolicy};
use rotoless_core::record::JobRecord;
use rotoless_core::usecase::{AttemptCalls, Claims, Drainers, Submit};
use rotoless_embedded::{Embedded, EmbeddedConfig};
use rotoless_telemetry::{Metrics, watched};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use tower::ServiceExt as _;

/// A second of the light model, which is what an output of less than a second costs.
pub(crate) const PRICE: MilliCredits = MilliCredits(750);
pub(crate) const FLEET: &str = "the fleet's key";

/// A clock that stands still until it is set.
pub(crate) struct Wheel(AtomicI64);

impl Clock for Wheel {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

struct Anywhere;

impl UrlPolicy for Anywhere {
    fn check(&self, _url: &str) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) clock: Arc<Wheel>,
    /// Calls of AWS.
    pub(crate) meter: CallMeter,
    pub(crate) store: Arc<Store>,
    pub(crate) objects: Arc<S3Objects>,
    pub(crate) queue: Arc<SqsQueue>,
    dynamodb: aws_sdk_dynamodb::Client,
    accounts: String,
    client: ClientId,
    _embedded: Embedded,
    _dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<String>,
}

impl Reply {
    /// Status and the `reason` of the envelope.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["error"]["reason"].as_str().unwrap_or_default())
    }
}

/// A signed call, before it is sent.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn new<B: Serialize>(secret: &str, path: String, body: &B, at: Timestamp) -> Self {
        Self::of_bytes(secret, path, serde_json::to_vec(body).unwrap(), at)
    }

    pub(crate) fn of_bytes(secret: &str, path: String, body: Vec<u8>, at: Timestamp) -> Self {
        let signature = sign_call(&SecretString::from(secret), "POST", &path, at.as_second(), &body);
        Self { path, timestamp: at.as_second().to_string(), signature, body }
    }

    /// None where HTTP itself cannot carry it.
    pub(crate) fn request(&self) -> Option<Request<Body>> {
        let request = Request::post(self.path.as_str())
            .header(TIMESTAMP_HEADER, self.timestamp.as_bytes())
            .header(SIGNATURE_HEADER, self.signature.as_bytes());
        request.body(Body::from(self.body.clone())).ok()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        // The second world of a process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let (embedded, settings) = embedded(&dir).await;
        let meter = CallMeter::default();
        let clients = AwsClients::metered(&settings, &meter).await;
        let store = Arc::new(Store::new(clients.dynamodb.clone(), settings.names.clone()));
        let mut world = Self {
            router: Router::new(),
            clock: Arc::new(Wheel(AtomicI64::new(Timestamp::now().as_millisecond()))),
            meter,
            store,
            objects: Arc::new(S3Objects::new(&clients, &settings.names.bucket)),
            queue: Arc::new(SqsQueue::new(clients.sqs.clone(), &settings.names.jobs_queue_url)),
            dynamodb: clients.dynamodb.clone(),
            accounts: settings.names.accounts.clone(),
            client: "acme".parse().unwrap(),
            _embedded: embedded,
            _dir: dir,
        };
        world.router = world.router_with(&["the master"]);
        let granted = MilliCredits(100_000);
        world.store.grant(&world.client, "first", granted, None, world.clock.now()).await.unwrap();
        world
    }

    /// The routes with these masters; the first derives new attempts' secrets.
    pub(crate) fn router_with(&self, masters: &[&str]) -> Router {
        self.router_over(self.store.clone(), masters)
    }

    /// The routes, their changes counted in `metrics`.
    pub(crate) fn counted(&self, metrics: Metrics) -> Router {
        self.router_over(watched(self.store.clone(), metrics), &["the master"])
    }

    fn router_over(&self, jobs: Arc<dyn Jobs>, masters: &[&str]) -> Router {
        let secrets = |texts: &[&str]| texts.iter().map(|text| SecretString::from(*text)).collect::<Vec<_>>();
        let (policy, entropy) = (Arc::new(Policy::default()), Arc::new(SystemEntropy));
        let claims = Claims {
            jobs: jobs.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            entropy: entropy.clone(),
            policy: policy.clone(),
            master: SecretString::from(masters[0]),
        };
        let attempts = AttemptCalls {
            jobs,
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            entropy: entropy.clone(),
            policy,
        };
        router(CallbackState {
            claims: Arc::new(claims),
            attempts: Arc::new(attempts),
            drainers: Arc::new(Drainers { eventcount: self.store.clone(), clock: self.clock.clone() }),
            clock: self.clock.clone(),
            entropy,
            secrets: Arc::new(Secrets { fleet: secrets(&[FLEET]), masters: secrets(masters) }),
            signs: Arc::new(SignsOfLife::new(self.store.clone())),
        })
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// A job that waits for a worker.
    pub(crate) async fn job(&self) -> JobId {
        self.job_by(self.store.clone()).await
    }

    /// The same, by way of these jobs.
    pub(crate) async fn job_by(&self, jobs: Arc<dyn Jobs>) -> JobId {
        let submit = Submit {
            jobs,
            promises: self.store.clone(),
            objects: self.objects.clone(),
            probe: Arc::new(HeaderProbe::new(self.objects.as_ref().clone())),
            urls: Arc::new(Anywhere),
            queue: self.queue.clone(),
            waker: Arc::new(InProcessWaker),
            clock: self.clock.clone(),
            entropy: Arc::new(SystemEntropy),
            policy: Arc::new(Policy::default()),
        };
        let request = JobRequest {
            video_url: Some("https://videos.example.com/clip.mp4".to_owned()),
            model: Some("light".to_owned()),
            ..JobRequest::default()
        };
        submit.create(&self.client, &request, None, None).await.unwrap().job.id
    }

    pub(crate) async fn record(&self, id: &JobId) -> JobRecord {
        self.store.job(id).await.unwrap().unwrap()
    }

    pub(crate) async fn balance(&self) -> Balance {
        self.store.balance(&self.client).await.unwrap()
    }

    pub(crate) async fn send(&self, call: &Call) -> Reply {
        self.ask(&self.router, call.request().expect("a request that HTTP can carry")).await
    }

    pub(crate) async fn ask(&self, router: &Router, request: Request<Body>) -> Reply {
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert!(response.headers().contains_key("x-request-id"));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let is_envelope = body["error"]["code"].is_string() && body["error"]["request_id"].is_string();
        assert_eq!(is_envelope, status.as_u16() >= 400, "{body}");
        Reply { status, body, retry_after }
    }

    /// The claim of a worker that has the job's message.
    pub(crate) async fn claim_call(&self, id: &JobId) -> Call {
        let job = self.record(id).await;
        let request = ClaimRequest {
            v: 1,
            run: job.state.run.unwrap(),
            claim_token: SecretString::from(job.claim_token.unwrap().0),
            worker_id: "test".to_owned(),
            provider: "cpu".to_owned(),
        };
        Call::new(FLEET, claim_path(id), &request, self.clock.now())
    }

    pub(crate) async fn claim(&self, id: &JobId) -> ClaimReply {
        let reply = self.send(&self.claim_call(id).await).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        serde_json::from_value(reply.body).unwrap()
    }

    /// A call of an attempt, signed now with its own secret.
    pub(crate) fn attempt_call<B: Serialize>(&self, claim: &ClaimReply, what: &str, body: &B) -> Call {
        let path = attempt_path(&claim.job_id, claim.attempt, what);
        Call::new(claim.report_secret.expose_secret(), path, body, self.clock.now())
    }

    /// Uploads an output with its manifest; the report of it.
    pub(crate) async fn finish_work(&self, claim: &ClaimReply) -> ReportRequest {
        let key = output_key(&claim.job_id, claim.run, claim.attempt, claim.spec.output_format.extension());
        self.put(&key, Bytes::from_static(b"output")).await;
        let manifest = Manifest {
            v: 1,
            job_id: claim.job_id.clone(),
            run: claim.run,
            attempt: claim.attempt,
            output_key: key,
            matte: None,
            input: InputInfo {
                width: 640,
                height: 360,
                fps: 25.0,
                codec: "h264".to_owned(),
                has_audio: false,
                duration_seconds: 1.0,
            },
            output: OutputInfo {
                format: claim.spec.output_format,
                size_bytes: 6,
                sha256: sha256_hex(b"output"),
                width: 640,
                height: 360,
                fps: 25.0,
                frames: 25,
                duration_ms: 1000,
                has_alpha: true,
                has_audio: false,
            },
            quality: None,
            warnings: Vec::new(),
        };
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let digest = sha256_hex(&bytes);
        self.put(&claim.manifest.key, Bytes::from(bytes)).await;
        ReportRequest::Completed { manifest_sha256: digest }
    }

    /// What a worker measured of a source of this length.
    pub(crate) fn measured(&self, duration_ms: u64) -> ProbedRequest {
        let input = InputInfo {
            width: 640,
            height: 360,
            fps: 25.0,
            codec: "h264".to_owned(),
            has_audio: false,
            duration_seconds: duration_ms as f64 / 1000.0,
        };
        ProbedRequest { input, duration_ms }
    }

    /// Milli-credits that are gone without a trace: what no code of ours does.
    pub(crate) async fn lose_credits(&self, milli: u64) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let update = self.dynamodb.update_item().table_name(&self.accounts);
        let update = update.key("client_id", text(self.client.as_str())).key("entry", text("balance"));
        let update = update.update_expression("SET #a = #a - :lost").expression_attribute_names("#a", "available");
        update.expression_attribute_values(":lost", AttributeValue::N(milli.to_string())).send().await.unwrap();
    }

    async fn put(&self, key: &str, bytes: Bytes) {
        let body = Box::pin(stream::iter([Ok(bytes)]));
        self.objects.store(key, "application/octet-stream", body, u64::MAX).await.unwrap();
    }
}

async fn embedded(dir: &tempfile::TempDir) -> (Embedded, Settings) {
    let credentials = StaticCredentials { access_key: "test".to_owned(), secret_key: SecretString::from("secret") };
    let embedded = Embedded::start(EmbeddedConfig {
        data_dir: dir.path().join("data"),
        access_key: credentials.access_key.clone(),
        secret_key: SecretString::from(credentials.secret_key.expose_secret()),
        chaos: None,
        visibility_seconds: None,
    })
    .await
    .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let s3 = format!("http://{}", listener.local_addr().unwrap());
    let bucket = embedded.s3();
    tokio::spawn(async move { axum::serve(listener, bucket).await });
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
    (embedded, settings)
}
