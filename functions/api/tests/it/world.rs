//! A service of its own for each test: the router over an embedded AWS, a client to call it, and the hands of a
//! worker to finish a job with.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::stream;
use http_body_util::BodyExt as _;
use rotoless_api::on_aws::{Adapters, backends};
use rotoless_api::{ApiState, Dependencies, HealthProbe, Host, LegacyApi, Ports, router};
use rotoless_aws::config::StaticCredentials;
use rotoless_aws::system::SystemClock;
use rotoless_aws::wakers::{Drain, Homes, WakeSettings};
use rotoless_aws::{AwsClients, CallMeter, Endpoints, Names, S3Objects, Settings, SqsQueue, Store};
use rotoless_contract::api::{CreateKeyReply, UploadReply};
use rotoless_contract::manifest::{Manifest, MatteInfo, manifest_key, output_key};
use rotoless_contract::media::{InputInfo, OutputInfo};
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::worker::{ClaimReply, ClaimRequest, HeartbeatRequest, ReportRequest, Stage};
use rotoless_contract::{Attempt, JobId, JobStatus};
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Clock, Jobs as _, UploadSink as _};
use rotoless_core::usecase::{AttemptCalls, Claims};
use rotoless_embedded::{Embedded, EmbeddedConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::documented;

/// What workers of these tests keep as their matte.
pub(crate) const MATTE: &[u8] = b"matte";

pub(crate) const ADMIN_TOKEN: &str = "the operator's token";
pub(crate) const BASE: &str = "http://127.0.0.1:8080";
/// A person before a backdrop, 3 s, 640×360.
pub(crate) const CLIP: &[u8] = include_bytes!("../../../../samples/portrait.mp4");

pub(crate) struct World {
    pub(crate) router: Router,
    /// What the router was made of.
    pub(crate) ports: Ports,
    pub(crate) host: Host,
    pub(crate) store: Arc<Store>,
    pub(crate) objects: Arc<S3Objects>,
    pub(crate) queue: Arc<SqsQueue>,
    /// What the service calls.
    pub(crate) meter: CallMeter,
    claims: Claims,
    attempts: AttemptCalls,
    _embedded: Embedded,
    _dir: tempfile::TempDir,
}

struct AllWell;

#[async_trait]
impl HealthProbe for AllWell {
    async fn look(&self) -> Dependencies {
        Dependencies { database: true, queue: true, object_store: true, ..Dependencies::default() }
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// A service whose host decided otherwise in some point.
    pub(crate) async fn with(decide: impl FnOnce(&mut Host, &mut Ports)) -> Self {
        // The second world of a process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let (embedded, settings) = embedded(&dir).await;
        let meter = CallMeter::default();
        let clients = AwsClients::metered(&settings, &meter).await;
        let adapters = Adapters::new(&clients, &settings);
        let Adapters { store, objects, queue } = adapters.clone();
        let mut ports = adapters.ports(rotoless_egress::Policy::default(), &polling(&clients, &settings.names, &store));
        let mut host = Host {
            policy: Arc::new(Policy::default()),
            public_base: Some(BASE.to_owned()),
            admin_token: Some(SecretString::from(ADMIN_TOKEN)),
            legacy: LegacyApi::Keyed,
            max_multipart_bytes: 500_000_000,
            webhook_master: SecretString::from("the webhook master"),
            models: Arc::new(|_| Ok(())),
            supported: Arc::new(|_| Ok(())),
            health: Arc::new(AllWell),
            streams: None,
            backends: backends(["DynamoDB", "S3", "SQS", "a test"]),
        };
        decide(&mut host, &mut ports);
        let policy = host.policy.clone();
        let (clock, entropy) = (ports.clock.clone(), ports.entropy.clone());
        let router = router(ApiState::new(ports.clone(), host.clone()));
        let claims = Claims {
            jobs: store.clone(),
            objects: objects.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy: policy.clone(),
            master: SecretString::from("the report master"),
        };
        let attempts = AttemptCalls { jobs: store.clone(), objects: objects.clone(), clock, entropy, policy };
        Self { router, ports, host, store, objects, queue, meter, claims, attempts, _embedded: embedded, _dir: dir }
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let request = Request::builder().method(method).uri(path);
        Call { router: &self.router, request, body: Body::empty() }
    }

    /// A new client's key, with this many credits.
    pub(crate) async fn client(&self, name: &str, credits: u64) -> String {
        let reply = self.post("/v1/admin/keys").admin().json(&json!({"client_id": name, "credits": credits})).send();
        reply.await.ok::<CreateKeyReply>().api_key
    }

    /// The sample clip, uploaded as a form; its `video_url`.
    pub(crate) async fn upload(&self, key: &str) -> String {
        let reply = self.post("/v1/uploads").key(key).form(&[part("file", Some("clip.mp4"), CLIP)]).send().await;
        reply.ok::<UploadReply>().video_url
    }

    /// A job of the sample clip, as clients make it.
    pub(crate) async fn job(&self, key: &str) -> JobId {
        let video_url = self.upload(key).await;
        let body = json!({"video_url": video_url, "model": "original", "bg_type": "green", "output_format": "webm", "auto_start": true});
        let reply = self.post("/v1/jobs").key(key).json(&body).send().await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json["id"].as_str().unwrap().parse().unwrap()
    }

    /// `available`, `held`, `used`.
    pub(crate) async fn credits(&self, key: &str) -> [f64; 3] {
        let reply = self.get("/v1/credits").key(key).send().await;
        ["available", "held", "used"].map(|part| reply.json[part].as_f64().unwrap())
    }

    /// What a worker does first.
    pub(crate) async fn claim(&self, id: &JobId) -> ClaimReply {
        let job = self.store.job(id).await.unwrap().unwrap();
        let request = ClaimRequest {
            v: 1,
            run: job.state.run.unwrap(),
            claim_token: SecretString::from(job.claim_token.unwrap().0),
            worker_id: "test".to_owned(),
            provider: "cpu".to_owned(),
        };
        self.claims.claim(id, &request).await.unwrap()
    }

    /// What a worker does until the job is completed, but for the matting: the output's bytes are these.
    pub(crate) async fn complete(&self, id: &JobId, output: &'static [u8]) {
        let claim = self.claim(id).await;
        let key = output_key(id, claim.run, claim.attempt, claim.spec.output_format.extension());
        self.put(&key, Bytes::from_static(output)).await;
        let matte = match &claim.keep_matte {
            Some(upload) => {
                self.put(&upload.key, Bytes::from_static(MATTE)).await;
                let made_for = claim.spec.output_format;
                let size_bytes = MATTE.len() as u64;
                let (sha256, source_sha256) = (sha256_hex(MATTE), sha256_hex(b"source"));
                Some(MatteInfo { key: upload.key.clone(), size_bytes, sha256, source_sha256, made_for })
            }
            None => None,
        };
        let manifest = Manifest {
            v: 1,
            job_id: id.clone(),
            run: claim.run,
            attempt: claim.attempt,
            output_key: key,
            matte,
            input: InputInfo {
                width: 640,
                height: 360,
                fps: 25.0,
                codec: "h264".to_owned(),
                has_audio: true,
                duration_seconds: 3.0,
            },
            output: OutputInfo {
                format: claim.spec.output_format,
                size_bytes: output.len() as u64,
                sha256: sha256_hex(output),
                width: 640,
                height: 360,
                fps: 25.0,
                frames: 75,
                duration_ms: 3000,
                has_alpha: false,
                has_audio: true,
            },
            quality: None,
            warnings: Vec::new(),
        };
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let report = ReportRequest::Completed { manifest_sha256: sha256_hex(&bytes) };
        self.put(&manifest_key(id, claim.run), Bytes::from(bytes)).await;
        let body = serde_json::to_vec(&report).unwrap();
        let reply = self.attempts.report(id, claim.attempt, &report, &body).await.unwrap();
        assert_eq!(reply.status, JobStatus::Completed);
    }

    /// An attempt that ends like this.
    pub(crate) async fn fail(&self, id: &JobId, reason: rotoless_contract::worker::FailureReason) {
        let claim = self.claim(id).await;
        let report = ReportRequest::Failed { reason, detail: "test".to_owned() };
        let body = serde_json::to_vec(&report).unwrap();
        self.attempts.report(id, claim.attempt, &report, &body).await.unwrap();
    }

    /// A sign of life of an attempt: whether it is told to stop.
    pub(crate) async fn beat(&self, id: &JobId, attempt: Attempt) -> bool {
        let beat = HeartbeatRequest::at(Stage::Matte, 1, 75);
        self.attempts.heartbeat(id, attempt, &beat).await.unwrap().cancel
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

/// Places where nobody answers.
pub(crate) fn settings_of_nowhere() -> Settings {
    let nowhere: url::Url = "http://127.0.0.1:1/".parse().unwrap();
    let name = || "nowhere".to_owned();
    Settings {
        endpoints: Some(Endpoints {
            dynamodb: nowhere.clone(),
            sqs: nowhere.clone(),
            s3: nowhere.clone(),
            public_s3: None,
        }),
        region: rotoless_embedded::REGION.to_owned(),
        credentials: Some(StaticCredentials { access_key: name(), secret_key: SecretString::from("secret") }),
        names: Names {
            keys: name(),
            accounts: name(),
            jobs: name(),
            idempotency: name(),
            deliveries: name(),
            limits: name(),
            usage: name(),
            bucket: name(),
            jobs_queue_url: nowhere.to_string(),
        },
    }
}

/// One request to be.
pub(crate) struct Call<'a> {
    router: &'a Router,
    request: axum::http::request::Builder,
    body: Body,
}

impl<'a> Call<'a> {
    /// Another router is asked than the world's.
    pub(crate) fn of(mut self, router: &'a Router) -> Self {
        self.router = router;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.request = self.request.header(name, value.as_ref());
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("X-Api-Key", key)
    }

    pub(crate) fn admin(self) -> Self {
        self.header("X-Admin-Token", ADMIN_TOKEN)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub(crate) fn form(self, parts: &[Part<'_>]) -> Self {
        self.header("Content-Type", format!("multipart/form-data; boundary={BOUNDARY}")).body(form_body(parts))
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// The answer. What every answer must have is checked here, so for each of them.
    pub(crate) async fn send(self) -> Reply {
        let request = self.request.body(self.body).unwrap();
        let (method, target) = (request.method().clone(), request.uri().to_string());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|err| panic!("not JSON ({err}): {text}"));
        let reply = Reply { status: parts.status, headers: parts.headers, json, text };
        reply.is_well_formed();
        documented::expects(method.as_str(), &target, &reply);
        reply
    }
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Reply {
    fn is_well_formed(&self) {
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers["x-content-type-options"], "nosniff");
        let cache = self.headers["cache-control"].to_str().unwrap();
        assert!(cache == "no-store" || self.json.get("openapi").is_some(), "{cache}");
        let request_id = self.headers["x-request-id"].to_str().unwrap();
        assert!(request_id.starts_with("req_") && request_id.len() == 36, "{request_id}");
        if self.status.as_u16() >= 400 {
            let error = &self.json["error"];
            assert!(error.is_object(), "{}", self.text);
            assert_eq!(error["request_id"], request_id);
            assert!(!error["code"].as_str().unwrap().is_empty());
            assert!(!error["message"].as_str().unwrap().is_empty());
        } else {
            assert_eq!(self.status, StatusCode::OK);
            assert!(self.json.get("error").is_none_or(Value::is_null) || self.json["status"] == "failed");
        }
    }

    #[track_caller]
    pub(crate) fn ok<T: DeserializeOwned>(self) -> T {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        serde_json::from_value(self.json).unwrap()
    }

    /// Status and code of a refusal.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status.as_u16(), self.json["error"]["code"].as_str()), (status, Some(code)), "{}", self.text);
        self
    }

    pub(crate) fn message(&self) -> &str {
        self.json["error"]["message"].as_str().unwrap()
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.json["error"]["reason"].as_str()
    }

    pub(crate) fn param(&self) -> Option<&str> {
        self.json["error"]["param"].as_str()
    }
}

pub(crate) const BOUNDARY: &str = "----form-boundary-7MA4YWxk";

/// One part of a form: its field's name, its file's name, its bytes.
pub(crate) type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

pub(crate) fn part<'a>(name: &'a str, filename: Option<&'a str>, bytes: &'a [u8]) -> Part<'a> {
    (name, filename, bytes)
}

/// A form as the Python client sends it: no `Content-Type` on the parts.
pub(crate) fn form_body(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, filename, bytes) in parts {
        let filename = filename.map(|filename| format!("; filename=\"{filename}\"")).unwrap_or_default();
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// Workers that need no wake.
fn polling(clients: &AwsClients, names: &Names, store: &Arc<Store>) -> Homes {
    let settings = WakeSettings::from_lookup(|_| None).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let drain = Drain { clients, names, eventcount: store.clone() };
    Homes::connect(&settings, &Policy::default(), &clock, &drain)
}
