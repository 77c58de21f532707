//! A client of the service under measurement, and what it orders.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use reqwest::{Method, StatusCode};
use rotoless_contract::Model;
use serde_json::{Value, json};

/// Longer than any route may take.
const ANSWER: Duration = Duration::from_secs(30);
const BOUNDARY: &str = "----rotoless-bench-7MA4YWxk";

/// What every job is made of.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) clip: Bytes,
    pub(super) model: Model,
}

impl Order {
    /// The body of a create.
    pub(super) fn body(&self, video_url: &str) -> Value {
        json!({
            "video_url": video_url,
            "model": self.model,
            "bg_type": "transparent",
            "output_format": "webm",
            "metadata": {"order": "4711"},
        })
    }

    /// The clip as a browser would send it.
    fn form(&self) -> Vec<u8> {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"clip\"\r\n\r\n");
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        [head.as_bytes(), self.clip.as_ref(), tail.as_bytes()].concat()
    }
}

/// One client with one key. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    api_key: String,
}

impl Client {
    pub(super) fn new(url: &str, api_key: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
        Ok(Self { http, url: url.to_owned(), api_key: api_key.to_owned() })
    }

    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).header("x-api-key", &self.api_key)
    }

    /// The answer to a request that must succeed.
    pub(super) async fn answer(request: reqwest::RequestBuilder) -> Result<Value> {
        let response = request.send().await?;
        let (status, path) = (response.status(), response.url().path().to_owned());
        let body = response.bytes().await?;
        if status != StatusCode::OK {
            bail!("{path} was answered with {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{path} was not answered with JSON"))
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Self::answer(self.request(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        Self::answer(self.request(Method::POST, path).json(body)).await
    }

    pub(super) fn upload_request(&self, order: &Order) -> reqwest::RequestBuilder {
        let request = self.request(Method::POST, "/v1/uploads");
        request.header("content-type", format!("multipart/form-data; boundary={BOUNDARY}")).body(order.form())
    }

    /// Uploads the clip; its `video_url`.
    pub(super) async fn upload(&self, order: &Order) -> Result<String> {
        text(&Self::answer(self.upload_request(order)).await?, "video_url")
    }

    /// Creates a job; its id.
    pub(super) async fn create(&self, body: &Value) -> Result<String> {
        text(&self.post("/v1/jobs", body).await?, "id")
    }
}

/// A field of an answer.
pub(super) fn text(answer: &Value, name: &str) -> Result<String> {
    Ok(answer[name].as_str().with_context(|| format!("the answer has no `{name}`"))?.to_owned())
}
