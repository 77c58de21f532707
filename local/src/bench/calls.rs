//! What each route calls: one request at a time, on a meter.

use std::collections::BTreeMap;

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use rotoless_aws::Calls;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{Client, Order, text};
use super::service::Service;

/// Requests a route; what is shown is the one that called most.
const REPEATS: u32 = 5;
/// Jobs of the client whose list is asked for.
const JOBS: u32 = 200;

/// One route, at its worst.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RouteCalls {
    pub(super) route: String,
    /// Calls of DynamoDB by operation.
    pub(super) dynamodb: BTreeMap<String, u64>,
    pub(super) reads: u64,
    pub(super) writes: u64,
    /// Refused conditions: their units are not answered.
    pub(super) refused: u64,
    pub(super) read_units: f64,
    pub(super) write_units: f64,
    pub(super) s3: u64,
    pub(super) sqs: u64,
}

impl RouteCalls {
    fn new(route: &str, calls: &Calls) -> Self {
        let dynamodb = calls.by_operation.iter().filter(|((service, _), _)| service == "DynamoDB");
        Self {
            route: route.to_owned(),
            dynamodb: dynamodb.map(|((_, operation), count)| (operation.clone(), *count)).collect(),
            reads: calls.reads(),
            writes: calls.writes(),
            refused: calls.refused,
            read_units: calls.read_units,
            write_units: calls.write_units,
            s3: calls.of("S3"),
            sqs: calls.of("SQS"),
        }
    }
}

struct Measuring<'a> {
    service: &'a Service,
    rows: Vec<RouteCalls>,
}

impl Measuring<'_> {
    async fn route(&mut self, name: &str, request: impl AsyncFn(&Client, u32) -> Result<RequestBuilder>) -> Result<()> {
        let mut worst = Calls::default();
        for repeat in 0..REPEATS {
            // Whatever it takes to make the request is not the route's.
            let request = request(&self.service.client, repeat).await?;
            let _ = self.service.meter.take();
            Client::answer(request).await?;
            let calls = self.service.meter.take();
            if repeat == 0 || calls.of("DynamoDB") > worst.of("DynamoDB") {
                worst = calls;
            }
        }
        self.rows.push(RouteCalls::new(name, &worst));
        Ok(())
    }
}

pub(super) async fn measure(service: &Service, order: &Order) -> Result<Vec<RouteCalls>> {
    let mut measuring = Measuring { service, rows: Vec::new() };
    let video_url = service.client.upload(order).await?;
    let body = order.body(&video_url);
    orders(&mut measuring, order, &body).await?;
    jobs(&mut measuring, &body).await?;
    reads(&mut measuring, &body).await?;
    Ok(measuring.rows)
}

/// What leads to a job.
async fn orders(measuring: &mut Measuring<'_>, order: &Order, body: &Value) -> Result<()> {
    let presign = json!({"filename": "clip.mp4", "content_type": "video/mp4", "size": order.clip.len()});
    let upload = async |client: &Client, _| Ok(client.upload_request(order));
    measuring.route("POST /v1/uploads, a form", upload).await?;
    let post = |path: &'static str, body: &Value| {
        let body = body.clone();
        async move |client: &Client, _| Ok(client.request(Method::POST, path).json(&body))
    };
    measuring.route("POST /v1/uploads, a link", post("/v1/uploads", &presign)).await?;
    measuring.route("POST /v1/estimate", post("/v1/estimate", body)).await?;
    measuring.route("POST /v1/jobs", post("/v1/jobs", body)).await?;
    let promised = async |client: &Client, repeat: u32| {
        let request = client.request(Method::POST, "/v1/jobs").json(body);
        Ok(request.header("idempotency-key", format!("bench-{repeat}")))
    };
    measuring.route("POST /v1/jobs, Idempotency-Key", promised).await?;
    measuring.route("POST /v1/jobs, the same key again", promised).await
}

/// What is done with a job.
async fn jobs(measuring: &mut Measuring<'_>, body: &Value) -> Result<()> {
    let service = measuring.service;
    let read = async |client: &Client, _| Ok(client.request(Method::GET, &job(&client.create(body).await?)));
    measuring.route("GET /v1/jobs/{id}, pending", read).await?;
    let read = async |client: &Client, _| {
        let id = client.create(body).await?;
        service.complete(&id).await?;
        Ok(client.request(Method::GET, &job(&id)))
    };
    measuring.route("GET /v1/jobs/{id}, completed", read).await?;
    let start = async |client: &Client, _| {
        let mut draft = body.clone();
        draft["auto_start"] = json!(false);
        let id = client.create(&draft).await?;
        Ok(client.request(Method::POST, &format!("{}/start", job(&id))))
    };
    measuring.route("POST /v1/jobs/{id}/start", start).await?;
    let cancel = async |client: &Client, _| {
        let id = client.create(body).await?;
        Ok(client.request(Method::POST, &format!("{}/cancel", job(&id))))
    };
    measuring.route("POST /v1/jobs/{id}/cancel", cancel).await?;
    let delete = async |client: &Client, _| {
        let id = client.create(body).await?;
        client.post(&format!("{}/cancel", job(&id)), &json!({})).await?;
        Ok(client.request(Method::DELETE, &job(&id)))
    };
    measuring.route("DELETE /v1/jobs/{id}", delete).await
}

/// Lists, balances, sums.
async fn reads(measuring: &mut Measuring<'_>, body: &Value) -> Result<()> {
    fill(&measuring.service.client, body).await?;
    let get = |path: &'static str| async move |client: &Client, _| Ok(client.request(Method::GET, path));
    for (name, path) in [
        ("GET /v1/jobs?limit=20 of 200", "/v1/jobs?limit=20"),
        ("GET /v1/credits", "/v1/credits"),
        ("GET /v1/usage/summary", "/v1/usage/summary"),
        ("GET /v1/usage/events?limit=20", "/v1/usage/events?limit=20"),
    ] {
        measuring.route(name, get(path)).await?;
    }
    Ok(())
}

/// Creates jobs until the client has [`JOBS`].
pub(super) async fn fill(client: &Client, body: &Value) -> Result<()> {
    let total = client.get("/v1/jobs?limit=1").await?["total"].as_u64().unwrap_or(0);
    for _ in total..u64::from(JOBS) {
        client.create(body).await?;
    }
    Ok(())
}

/// The path of a job.
pub(super) fn job(id: &str) -> String {
    format!("/v1/jobs/{id}")
}

/// The ids of the newest jobs.
pub(super) async fn newest(client: &Client) -> Result<Vec<String>> {
    let list = client.get("/v1/jobs?limit=100").await?;
    list["jobs"].as_array().into_iter().flatten().map(|job| text(job, "id")).collect()
}
