//! What workers ask and say, as the published Python worker does.

use std::collections::BTreeSet;
use std::time::Instant;

use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::super::platform::{Millis, Offer, Route, Trouble, WorkerId};
use super::public::LOOK;
use super::{Answer, Broken, Endpoint, Query};

/// What a worker on a busy machine may take between a take or a result and the ping that knows of it.
const SLACK: Millis = 3000;

/// Takes a take back, however its call ends.
struct Withdraw<'a> {
    endpoint: &'a Endpoint,
    worker: WorkerId,
    take: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.endpoint.with(|platform, _| platform.withdraw(self.worker, self.take));
    }
}

impl Endpoint {
    pub(super) async fn worker_asks(&self, kind: &str, worker: &str, query: &Query) -> Answer {
        let Some(worker) = WorkerId::parse(worker) else {
            self.with(|platform, _| platform.witness.breach(format!("{worker} is nobody's name")));
            return Answer::Empty(404);
        };
        match kind {
            "ping" => self.pinged(worker, query).await,
            "job-stop" => self.asked_for_stops(worker).await,
            _ => {
                let most = query.get("batch_size").and_then(|size| size.parse().ok());
                let batch = (kind == "job-take-batch").then(|| most.unwrap_or(1));
                self.asked_for_work(worker, batch, query).await
            }
        }
    }

    async fn pinged(&self, worker: WorkerId, query: &Query) -> Answer {
        if let Some(Trouble::Refuse(status) | Trouble::Deny(status)) = self.trouble(Route::Ping).await {
            return Answer::Empty(status);
        }
        self.with(|platform, now| {
            if query.get("status").is_some_and(|status| status == "unhealthy") {
                let reason = query.get("reason").or_else(|| query.get("check")).map_or("", String::as_str);
                platform.unfit(now, worker, reason);
            } else {
                let named = query.get("job_id").map_or("", String::as_str);
                let named: BTreeSet<String> = named.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect();
                platform.ping(now, worker, &named, SLACK);
            }
        });
        Answer::Json(200, json!({}))
    }

    async fn asked_for_stops(&self, worker: WorkerId) -> Answer {
        let deadline = Instant::now() + self.0.poll;
        loop {
            let stops = self.with(|platform, _| platform.stops(worker));
            if !stops.is_empty() {
                // Told again and again until it is done: not in a hot loop.
                tokio::time::sleep(LOOK).await;
                return Answer::Json(200, json!({"jobsToStop": stops}));
            }
            if Instant::now() >= deadline {
                return Answer::Empty(204);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn asked_for_work(&self, worker: WorkerId, batch: Option<usize>, query: &Query) -> Answer {
        let trouble = self.trouble(Route::Take).await;
        if let Some(Trouble::Refuse(status)) = trouble {
            return Answer::Empty(status);
        }
        let busy = match query.get("job_in_progress").map(String::as_str) {
            Some("0") => false,
            Some("1") => true,
            other => {
                self.with(|platform, _| platform.witness.breach(format!("{worker} says job_in_progress={other:?}")));
                return Answer::Empty(400);
            }
        };
        let take = match self.with(|platform, now| platform.take(now, worker, busy)) {
            Ok(take) => take,
            Err(status) => return Answer::Empty(status),
        };
        let _withdraw = Withdraw { endpoint: self, worker, take };
        let offer = self.offered(worker, take, batch.unwrap_or(1)).await;
        match (offer, trouble) {
            (offer, Some(Trouble::Deny(status))) => {
                if let Offer::Jobs(jobs) = offer {
                    let ids = jobs.iter().filter_map(|job| job["id"].as_str());
                    ids.for_each(|id| self.with(|platform, _| platform.witness.spoil(id)));
                }
                Answer::Empty(status)
            }
            (Offer::Jobs(jobs), _) if batch.is_some() => Answer::Json(200, Value::Array(jobs)),
            (Offer::Jobs(jobs), _) => Answer::Json(200, jobs.into_iter().next().unwrap_or_default()),
            // What the published worker calls expected where FlashBoot is on.
            (Offer::Wait, _) => {
                Answer::Empty(self.with(|platform, _| if platform.settings.flashboot { 400 } else { 204 }))
            }
            (Offer::Cut, _) => Answer::Cut,
        }
    }

    async fn offered(&self, worker: WorkerId, take: u64, most: usize) -> Offer {
        let deadline = Instant::now() + self.0.poll;
        loop {
            let offer = self.with(|platform, now| platform.offer(now, worker, take, most));
            if offer != Offer::Wait || Instant::now() >= deadline {
                return offer;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn worker_says(
        &self,
        kind: &str,
        worker: &str,
        job: &str,
        parts: &Parts,
        body: Result<Bytes, Broken>,
    ) -> Answer {
        let Some(worker) = WorkerId::parse(worker) else { return Answer::Empty(404) };
        if kind == "job-stream" {
            self.with(|platform, _| platform.witness.breach(format!("{worker} streams {job}")));
            return Answer::Json(200, json!({}));
        }
        for breach in manners(worker, job, parts) {
            self.with(|platform, _| platform.witness.breach(breach));
        }
        let trouble = self.with(|platform, _| {
            let trouble = platform.faults.meet(Route::Done);
            if trouble.is_some() {
                platform.witness.spoil(job);
            }
            trouble
        });
        match trouble {
            Some(Trouble::Hang) => std::future::pending().await,
            Some(Trouble::Refuse(status)) => return Answer::Empty(status),
            Some(Trouble::Deny(_)) | None => {}
        }
        // The body was cut off at the largest that is taken.
        let Ok(body) = body else { return Answer::Json(400, json!({"error": "too large"})) };
        let Ok(said) = serde_json::from_slice::<Value>(&body) else {
            self.with(|platform, _| platform.witness.breach(format!("{worker} posted no JSON for {job}")));
            return Answer::Empty(400);
        };
        let done = self.with(|platform, now| platform.done(now, worker, job, &said));
        match (done, trouble) {
            (_, Some(Trouble::Deny(status))) | (Err(status), _) => Answer::Empty(status),
            (Ok(()), _) => Answer::Json(200, json!({})),
        }
    }
}

/// What the published worker sends with a result and this one did not.
fn manners(worker: WorkerId, job: &str, parts: &Parts) -> Vec<String> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut wrong = Vec::new();
    if header("x-request-id") != job {
        wrong.push(format!("{worker} posts {job} as the request {:?}", header("x-request-id")));
    }
    if header(CONTENT_TYPE.as_str()) != "application/x-www-form-urlencoded" {
        wrong.push(format!("{worker} posts {job} as {:?}", header(CONTENT_TYPE.as_str())));
    }
    if !parts.uri.query().unwrap_or_default().split('&').any(|pair| pair == "isStream=false") {
        wrong.push(format!("{worker} posts {job} without isStream"));
    }
    wrong
}
