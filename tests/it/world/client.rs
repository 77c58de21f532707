//! A client of the service, and its operator: plain HTTP, nothing of ours but the wire types.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use rotoless_contract::api::CreditsReply;
use rotoless_contract::{Job, JobStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ADMIN_TOKEN;

const FORM_BOUNDARY: &str = "a-boundary-that-no-clip-contains";

/// Where the service answers; after a restart, somewhere else.
#[derive(Clone)]
pub(crate) struct Door {
    pub(super) url: Arc<Mutex<String>>,
    pub(super) http: reqwest::Client,
}

/// A holder of an API key.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) door: Door,
    pub(crate) key: String,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Reply {
    /// The body of a 200.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{:#}", self.json);
        self.json
    }

    /// A header; none counts as an empty one.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Checks for an error of this kind.
    pub(crate) fn is(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.json["error"]["code"]), (status, &json!(code)), "{:#}", self.json);
    }
}

impl Door {
    /// A door that stays where it is.
    pub(crate) fn to(url: &str) -> Self {
        Self { url: Arc::new(Mutex::new(url.to_owned())), http: reqwest::Client::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url.lock().unwrap())
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// A call of the operator.
    pub(crate) async fn admin(&self, path: &str, body: &Value) -> Reply {
        send(self.http.post(self.url(path)).header("X-Admin-Token", ADMIN_TOKEN).json(body)).await
    }

    /// A look of the operator.
    pub(crate) async fn admin_get(&self, path: &str) -> Reply {
        send(self.http.get(self.url(path)).header("X-Admin-Token", ADMIN_TOKEN)).await
    }

    /// A look of anybody.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.http.get(self.url(path))).await
    }
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = response.bytes().await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)));
    Reply { status, headers, json }
}

impl Client {
    /// The same client, by another way in.
    pub(crate) fn through(&self, url: &str) -> Self {
        let door = Door { url: Arc::new(Mutex::new(url.to_owned())), http: self.door.http.clone() };
        Self { door, key: self.key.clone() }
    }

    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.door.http.request(method, self.door.url(path)).header("X-Api-Key", &self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.request(reqwest::Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        send(self.request(reqwest::Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        send(self.request(reqwest::Method::POST, path).json(body)).await
    }

    /// Sends a file as a form, through the service.
    pub(crate) async fn send_form(&self, file: &Path) -> Reply {
        let name = file.file_name().unwrap().to_str().unwrap();
        let head = format!(
            "--{FORM_BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: video/mp4\r\n\r\n"
        );
        let mut body = head.into_bytes();
        body.extend(std::fs::read(file).unwrap());
        body.extend(format!("\r\n--{FORM_BOUNDARY}--\r\n").bytes());
        let content_type = format!("multipart/form-data; boundary={FORM_BOUNDARY}");
        send(self.request(reqwest::Method::POST, "/v1/uploads").header("Content-Type", content_type).body(body)).await
    }

    /// Uploads as a form. Gives the URL to order with.
    pub(crate) async fn upload_by_form(&self, file: &Path) -> String {
        text(&self.send_form(file).await.ok()["video_url"])
    }

    /// Uploads straight to the object store. Gives the URL to order with.
    pub(crate) async fn upload(&self, file: &Path) -> String {
        let body = std::fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let content_type = if name.ends_with(".png") { "image/png" } else { "video/mp4" };
        let asked = json!({"filename": name, "content_type": content_type, "size": body.len()});
        let presigned = self.post("/v1/uploads", &asked).await.ok();
        let mut put = self.door.http.put(text(&presigned["upload_url"])).body(body);
        for (name, value) in presigned["headers"].as_object().unwrap() {
            put = put.header(name, text(value));
        }
        let reply = send(put).await;
        assert_eq!(reply.status, 200, "{:?}", reply.json);
        text(&presigned["video_url"])
    }

    /// Orders the free model's matte of a video. Gives the job's id.
    pub(crate) async fn order(&self, video_url: &str) -> String {
        self.order_with(json!({"video_url": video_url, "model": "light", "output_format": "webm"})).await
    }

    pub(crate) async fn order_with(&self, order: Value) -> String {
        text(&self.post("/v1/jobs", &order).await.ok()["id"])
    }

    pub(crate) async fn job(&self, id: &str) -> Job {
        read(self.get(&format!("/v1/jobs/{id}")).await.ok())
    }

    pub(crate) async fn cancel(&self, id: &str) -> Reply {
        self.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await
    }

    pub(crate) async fn credits(&self) -> CreditsReply {
        read(self.get("/v1/credits").await.ok())
    }

    /// Available, held and used, in milli-credits.
    pub(crate) async fn milli_credits(&self) -> [u64; 3] {
        let CreditsReply { available, held, used } = self.credits().await;
        [available.0.0, held.0.0, used.0.0]
    }

    /// Polls until the job is as wanted. A job that ends otherwise fails the test at once.
    pub(crate) async fn wait(&self, id: &str, limit: Duration, wanted: impl Fn(&Job) -> bool) -> Job {
        let deadline = Instant::now() + limit;
        loop {
            let job = self.job(id).await;
            if wanted(&job) {
                return job;
            }
            let over = job.status.is_terminal() || Instant::now() >= deadline;
            assert!(!over, "not as wanted within {limit:?}: {job:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn completed(&self, id: &str, limit: Duration) -> Job {
        self.wait(id, limit, |job| job.status == JobStatus::Completed).await
    }

    /// Downloads a completed job's output.
    pub(crate) async fn download(&self, job: &Job, to: &Path) {
        let response = self.door.http.get(job.output_url.as_ref().expect("an output")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        std::fs::write(to, response.bytes().await.unwrap()).unwrap();
    }
}

fn read<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
