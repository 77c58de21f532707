//! The service's own cost beside what its calls of AWS take.
//!
//! Both are measured on the same request: from outside, over loopback, one request at a time; and from inside, the
//! time during which a call of the SDK was under way. So the machine's other load weighs on both alike. What is not
//! a call of AWS is ours: HTTP, JSON, rules, the adapters' own code, and the signing of links.

use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use super::calls::{fill, job, newest};
use super::client::{Client, Order};
use super::service::Service;
use super::summary::{median, milliseconds};

/// Requests a route, the routes taking turns.
const ROUNDS: usize = 100;
/// Requests before them, not counted.
const WARM_UP: usize = 20;

const ROUTES: [&str; 4] =
    ["GET /v1/jobs/{id}, pending", "GET /v1/jobs/{id}, completed", "GET /v1/jobs?limit=20", "POST /v1/jobs"];

/// All routes, and what they have in common.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Overheads {
    /// A request that calls nothing, ms.
    pub(super) http_ms: f64,
    pub(super) routes: Vec<Overhead>,
}

/// A route's medians.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Overhead {
    pub(super) route: &'static str,
    /// From the request to the whole answer, ms.
    pub(super) whole_ms: f64,
    /// Of it, under way in AWS, ms.
    pub(super) calls_ms: f64,
    /// One by the other.
    pub(super) ratio: f64,
}

struct Turn {
    whole: Duration,
    calls: Duration,
}

pub(super) async fn measure(service: &Service, order: &Order) -> Result<Overheads> {
    let client = &service.client;
    let body = order.body(&client.upload(order).await?);
    fill(client, &body).await?;
    let ids = newest(client).await?;
    // The list holds as many completed jobs as pending ones, each with a link to be signed.
    for id in ids.iter().step_by(2) {
        service.complete(id).await?;
    }
    let http_ms = http_alone(client).await?;
    let mut turns: [Vec<Turn>; 4] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let two = 2 * round % ids.len();
        let create = client.request(Method::POST, "/v1/jobs").json(&body);
        let requests = [
            client.request(Method::GET, &job(&ids[two + 1])),
            client.request(Method::GET, &job(&ids[two])),
            client.request(Method::GET, "/v1/jobs?limit=20"),
            create.header("idempotency-key", format!("overhead-{round}")),
        ];
        for (request, turns) in requests.into_iter().zip(&mut turns) {
            turns.push(turn(service, request).await?);
        }
    }
    let routes = ROUTES.into_iter().zip(turns).map(|(route, turns)| overhead(route, &turns[WARM_UP..])).collect();
    Ok(Overheads { http_ms, routes })
}

/// The median of a request that calls nothing: what of the service's own cost is HTTP, both ends of it.
async fn http_alone(client: &Client) -> Result<f64> {
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let request = client.request(Method::GET, "/v1/nowhere");
        let began = Instant::now();
        request.send().await?.bytes().await?;
        took.push(milliseconds(began.elapsed()));
    }
    Ok(median(took.into_iter()))
}

async fn turn(service: &Service, request: RequestBuilder) -> Result<Turn> {
    let _ = service.meter.take();
    let began = Instant::now();
    Client::answer(request).await?;
    Ok(Turn { whole: began.elapsed(), calls: service.meter.take().busy })
}

fn overhead(route: &'static str, turns: &[Turn]) -> Overhead {
    let whole_ms = median(turns.iter().map(|turn| milliseconds(turn.whole)));
    let calls_ms = median(turns.iter().map(|turn| milliseconds(turn.calls)));
    let ratio = median(turns.iter().map(|turn| turn.whole.as_secs_f64() / turn.calls.as_secs_f64().max(1e-9)));
    Overhead { route, whole_ms, calls_ms, ratio }
}
