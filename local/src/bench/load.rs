//! One core under load: as many requests as it answers, over connections that stay open.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use super::calls::{fill, job, newest};
use super::client::{Client, Order};
use super::cores;
use super::neighbour::Neighbour;
use super::summary::{milliseconds, percentile};

/// Connections, each with one request under way.
const CONNECTIONS: usize = 16;
/// Not counted.
const WARM_UP: Duration = Duration::from_secs(2);

/// A kind of request under load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Load {
    pub(super) route: &'static str,
    pub(super) requests: usize,
    /// Answers other than 200, and none.
    pub(super) errors: usize,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Processor time of the service, the embedded AWS included, a request.
    pub(super) cpu_ms: f64,
    /// Resident memory of the service, bytes.
    pub(super) memory_before: u64,
    pub(super) memory_after: u64,
}

/// What the connections send in turn.
struct Requests {
    client: Client,
    method: Method,
    paths: Vec<String>,
    body: Option<Value>,
}

pub(super) fn measure(models: &Path, order: &Order, time: Duration) -> Result<Vec<Load>> {
    let (theirs, ours) = cores::pair()?;
    let service = Neighbour::start(models, theirs)?;
    let sender = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            cores::pin(ours)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(send_all(&service, order, time))
        });
        sending.join()
    });
    match sender {
        Ok(loads) => loads,
        Err(_) => bail!("the sender of the load panicked"),
    }
}

async fn send_all(service: &Neighbour, order: &Order, time: Duration) -> Result<Vec<Load>> {
    let client = service.client().await?;
    let body = order.body(&client.upload(order).await?);
    fill(&client, &body).await?;
    let polled: Vec<String> = newest(&client).await?.iter().map(|id| job(id)).collect();
    let requests = |method, paths, body| Requests { client: client.clone(), method, paths, body };
    // Creates come last: they leave a line of thousands behind.
    Ok(vec![
        send("GET /v1/jobs/{id}", service, requests(Method::GET, polled, None), time).await?,
        send("GET /v1/jobs?limit=20", service, requests(Method::GET, vec!["/v1/jobs?limit=20".to_owned()], None), time)
            .await?,
        send("POST /v1/jobs", service, requests(Method::POST, vec!["/v1/jobs".to_owned()], Some(body)), time).await?,
    ])
}

async fn send(route: &'static str, service: &Neighbour, requests: Requests, time: Duration) -> Result<Load> {
    let requests = Arc::new(requests);
    let memory_before = service.memory()?;
    let counted_from = Instant::now() + WARM_UP;
    let until = counted_from + time;
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|connection| tokio::spawn(keep_sending(requests.clone(), connection, counted_from, until)))
        .collect();
    tokio::time::sleep_until(counted_from.into()).await;
    let cpu_before = service.cpu_time()?;
    tokio::time::sleep_until(until.into()).await;
    let cpu = service.cpu_time()?.saturating_sub(cpu_before);
    let (mut took, mut errors) = (Vec::new(), 0);
    for connection in connections {
        let (answered, failed) = connection.await?;
        took.extend(answered.into_iter().map(milliseconds));
        errors += failed;
    }
    took.sort_unstable_by(f64::total_cmp);
    let count = took.len().max(1) as f64;
    Ok(Load {
        route,
        requests: took.len(),
        errors,
        per_second: took.len() as f64 / time.as_secs_f64(),
        p50_ms: percentile(&took, 50.0),
        p99_ms: percentile(&took, 99.0),
        cpu_ms: milliseconds(cpu) / count,
        memory_before,
        memory_after: service.memory()?,
    })
}

/// One connection: how long each answer took that came while it counted, and how many were none.
async fn keep_sending(
    requests: Arc<Requests>,
    connection: usize,
    counted_from: Instant,
    until: Instant,
) -> (Vec<Duration>, usize) {
    let (mut took, mut errors) = (Vec::new(), 0);
    for number in connection.. {
        let began = Instant::now();
        if began >= until {
            break;
        }
        let path = &requests.paths[number % requests.paths.len()];
        let mut request = requests.client.request(requests.method.clone(), path);
        if let Some(body) = &requests.body {
            request = request.json(body);
        }
        let answered = is_answered(request).await;
        let ended = Instant::now();
        errors += usize::from(!answered);
        if answered && ended >= counted_from && ended < until {
            took.push(ended - began);
        }
    }
    (took, errors)
}

async fn is_answered(request: reqwest::RequestBuilder) -> bool {
    match request.send().await {
        Ok(response) => response.status() == reqwest::StatusCode::OK && response.bytes().await.is_ok(),
        Err(_) => false,
    }
}
