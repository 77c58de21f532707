//! The service's own cost beside what its calls of AWS take.
//!
//! Both are measured on the same request: from outside, over loopback, one request at a time; and from inside, the
//! time during which a call of the SDK was under way. So the machine's other load weighs on both alike. What is not
//! a call of AWS is ours: HTTP, JSON, rules, and the adapters' own code.

use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;

use super::calls::{fill, job, newest};
use super::client::{Client, Order};
use super::service::Service;
use super::summary::{median, milliseconds};

/// Requests a route, the routes taking turns; as many again come first and are not counted.
const ROUNDS: usize = 100;
const WARM_UP: usize = 20;

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

pub(super) async fn measure(service: &Service, order: &Order) -> Result<Vec<Overhead>> {
    let client = &service.client;
    let body = order.body(&client.upload(order).await?);
    fill(client, &body).await?;
    let ids = newest(client).await?;
    // The list holds as many completed jobs as pending ones, each with a link to be signed.
    for id in ids.iter().step_by(2) {
        service.complete(id).await?;
    }
    let (mut gets, mut lists, mut creates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let get = client.request(Method::GET, &job(&ids[round % ids.len()]));
        let list = client.request(Method::GET, "/v1/jobs?limit=20");
        let create = client.request(Method::POST, "/v1/jobs").json(&body);
        let create = create.header("idempotency-key", format!("overhead-{round}"));
        for (request, turns) in [(get, &mut gets), (list, &mut lists), (create, &mut creates)] {
            turns.push(turn(service, request).await?);
        }
    }
    let routes = [("GET /v1/jobs/{id}", gets), ("GET /v1/jobs?limit=20", lists), ("POST /v1/jobs", creates)];
    Ok(routes.into_iter().map(|(route, turns)| overhead(route, &turns[WARM_UP..])).collect())
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
