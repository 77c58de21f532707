//! The public side: requests, from `/run` to their end.

use serde_json::{Value, json};

use super::witness::End;
use super::{DAY, MINUTE, Millis, Order, Platform, Refused, SECOND, WakeFate, WorkerId};

/// How long an ended request can be asked for.
const KEPT: Millis = 30 * MINUTE;
/// So many purges in this time.
const MOST_PURGES: usize = 2;
const PURGE_WINDOW: Millis = 10 * SECOND;

/// As the wire has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    InQueue,
    InProgress,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: String,
    input: Value,
    pub(super) status: Status,
    submitted: Millis,
    /// Since when it waits; a retry waits anew.
    queued: Millis,
    held: Option<(Millis, bool)>,
    pub(super) taken: Option<(WorkerId, Millis)>,
    ended: Option<Millis>,
    /// What `done` said.
    result: Value,
    execution_timeout: Millis,
    ttl: Millis,
    low_priority: bool,
    retries: u32,
    phantom: bool,
}

impl Request {
    /// A worker may have it.
    pub(super) fn is_waiting(&self, now: Millis) -> bool {
        self.status == Status::InQueue && self.held.is_none_or(|(until, _)| until <= now)
    }

    /// `/health` counts it as waiting.
    pub(super) fn is_counted(&self, now: Millis) -> bool {
        self.status == Status::InQueue && self.held.is_none_or(|(until, counted)| counted || until <= now)
    }

    /// It makes the scaler act, and since when it waits.
    pub(super) fn presses(&self, now: Millis) -> Option<Millis> {
        let since = self.queued.max(self.held.map_or(0, |(until, _)| until));
        (self.is_waiting(now) && !self.low_priority).then_some(since)
    }

    fn end(&mut self, now: Millis, status: Status) {
        self.status = status;
        self.ended = Some(now);
    }

    /// What a worker gets of it.
    pub(super) fn handed(&self) -> Value {
        json!({"id": self.id, "input": self.input, "webhook": null})
    }

    fn shown(&self) -> Value {
        let mut shown = json!({"id": self.id, "status": self.status.as_str()});
        if let (Some((worker, taken)), Some(ended)) = (self.taken, self.ended) {
            shown["workerId"] = json!(worker.to_string());
            shown["delayTime"] = json!(taken.saturating_sub(self.submitted));
            shown["executionTime"] = json!(ended.saturating_sub(taken));
        }
        for part in ["output", "error"] {
            if let Some(said) = self.result.get(part) {
                shown[part] = said.clone();
            }
        }
        shown
    }
}

impl Platform {
    /// `POST /run`.
    pub(crate) fn run(&mut self, now: Millis, body: &Value) -> Result<Value, Refused> {
        if !body["input"].is_object() {
            return Err(400);
        }
        let policy = &body["policy"];
        let bounded = |name: &str, default: Millis, least: Millis| match policy.get(name) {
            None => Ok(default),
            Some(value) => value.as_u64().filter(|value| (least..=7 * DAY).contains(value)).ok_or(400_u16),
        };
        let execution_timeout = bounded("executionTimeout", self.settings.execution_timeout, 5 * SECOND)?;
        let ttl = bounded("ttl", self.settings.ttl, 10 * SECOND)?;
        let low_priority = policy["lowPriority"].as_bool().unwrap_or(false);
        self.touched = now;
        let request = |id: &str| Request {
            id: id.to_owned(),
            input: body["input"].clone(),
            status: Status::InQueue,
            submitted: now,
            queued: now,
            held: None,
            taken: None,
            ended: None,
            result: Value::Null,
            execution_timeout,
            ttl,
            low_priority,
            retries: 0,
            phantom: false,
        };
        let id = self.next_id();
        match self.faults.wakes.pop_front() {
            Some(WakeFate::Lost) => {}
            None => drop(self.requests.insert(id.clone(), request(&id))),
            Some(WakeFate::Held { lasts, counted }) => {
                let held = Some((now + lasts, counted));
                self.requests.insert(id.clone(), Request { held, ..request(&id) });
            }
            Some(WakeFate::Doubled) => {
                let twin = self.next_id();
                self.requests.insert(id.clone(), request(&id));
                self.requests.insert(twin.clone(), request(&twin));
            }
        }
        Ok(json!({"id": id, "status": Status::InQueue.as_str()}))
    }

    fn next_id(&mut self) -> String {
        self.made += 1;
        format!("{:08x}-fake-u1", self.made)
    }

    /// `GET /status/{id}`.
    pub(crate) fn status(&self, id: &str) -> Result<Value, Refused> {
        self.requests.get(id).map(Request::shown).ok_or(404)
    }

    /// `POST /cancel/{id}`.
    pub(crate) fn cancel(&mut self, now: Millis, id: &str) -> Result<Value, Refused> {
        let request = self.requests.get_mut(id).ok_or(404_u16)?;
        let worker = request.taken.map(|(worker, _)| worker);
        match request.status {
            Status::InQueue => request.end(now, Status::Cancelled),
            Status::InProgress => {
                request.end(now, Status::Cancelled);
                self.witness.ended(id, now, End::Cancelled);
                if let Some(worker) = worker.and_then(|worker| self.workers.get_mut(&worker)) {
                    worker.to_stop.insert(id.to_owned());
                }
            }
            Status::Completed | Status::Failed | Status::Cancelled | Status::TimedOut => {}
        }
        self.status(id)
    }

    /// `POST /retry/{id}`.
    pub(crate) fn retry(&mut self, now: Millis, id: &str) -> Result<Value, Refused> {
        let request = self.requests.get_mut(id).ok_or(404_u16)?;
        match request.status {
            Status::Failed | Status::TimedOut => {}
            Status::InQueue | Status::InProgress | Status::Completed | Status::Cancelled => return Err(400),
        }
        (request.status, request.queued, request.taken, request.ended) = (Status::InQueue, now, None, None);
        self.retried += 1;
        self.touched = now;
        self.status(id)
    }

    /// `POST /purge-queue`: those at work stay. Twice in 10 s and no more.
    pub(crate) fn purge(&mut self, now: Millis) -> Result<Value, Refused> {
        self.purges.retain(|at| at + PURGE_WINDOW > now);
        if self.purges.len() == MOST_PURGES {
            return Err(429);
        }
        self.purges.push(now);
        let before = self.requests.len();
        self.requests.retain(|_, request| request.status != Status::InQueue);
        Ok(json!({"removed": before - self.requests.len(), "status": "completed"}))
    }

    /// A request that is in progress at nobody.
    pub(crate) fn haunt(&mut self, now: Millis) {
        let ghost = self.run(now, &json!({"input": {"v": 1}})).unwrap();
        let request = self.requests.get_mut(ghost["id"].as_str().unwrap()).expect("no fate was set for this wake");
        (request.status, request.phantom) = (Status::InProgress, true);
    }

    /// What a worker says of a request. A body that is neither a result nor progress is the worker's fault.
    pub(crate) fn done(&mut self, now: Millis, by: WorkerId, id: &str, body: &Value) -> Result<(), Refused> {
        let taken = self.witness.sessions.iter().rev().find(|session| session.request == id);
        if taken.is_none_or(|session| session.worker != by) {
            self.witness.breach(format!("{by} posted a result of {id}, which it was not given"));
            return Err(400);
        }
        if body["status"] == "IN_PROGRESS" {
            self.witness.breach(format!("{by} posted progress of {id}"));
        }
        if body.get("output").is_none() && body.get("error").is_none() {
            self.witness.breach(format!("{by} posted {body} for {id}: neither output nor error"));
            return Err(400);
        }
        self.witness.posted(by, id);
        if let Some(worker) = self.workers.get_mut(&by) {
            worker.lay_down(now, id);
            if body["stopPod"] == true && !worker.stopping {
                worker.stopping = true;
                self.orders.push(Order::Terminate(by));
            }
        }
        let request = self.requests.get_mut(id).ok_or(404_u16)?;
        if request.status == Status::InProgress && request.taken.is_some_and(|(worker, _)| worker == by) {
            // An error that is no text is shown as a success without an output.
            let failed = body["error"].is_string();
            request.end(now, if failed { Status::Failed } else { Status::Completed });
            request.result = body.clone();
            *(if failed { &mut self.failed } else { &mut self.completed }) += 1;
            self.witness.ended(id, now, End::Done(body.clone()));
        }
        Ok(())
    }

    /// The oldest request that waits, now this worker's.
    pub(super) fn hand_out(&mut self, now: Millis, worker: WorkerId) -> Option<Value> {
        let request = self.requests.values_mut().find(|request| request.is_waiting(now))?;
        (request.status, request.taken) = (Status::InProgress, Some((worker, now)));
        let (id, handed) = (request.id.clone(), request.handed());
        self.witness.took(worker, &id, now);
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.take_up(now, id);
        }
        Some(handed)
    }

    /// Whoever had these will not say what came of them.
    pub(super) fn orphan(&mut self, now: Millis, jobs: &[String], why: &End) {
        for id in jobs {
            self.witness.ended(id, now, why.clone());
            let Some(request) = self.requests.get_mut(id) else { continue };
            if request.status != Status::InProgress {
                continue;
            }
            if self.faults.phantoms {
                request.phantom = true;
            } else if request.retries < self.settings.retries {
                (request.status, request.queued, request.taken) = (Status::InQueue, now, None);
                request.retries += 1;
                self.retried += 1;
            } else {
                request.end(now, Status::Failed);
                self.failed += 1;
            }
        }
    }

    /// Timeouts and the end of what is kept.
    pub(super) fn expire_requests(&mut self, now: Millis) {
        let mut killed = Vec::new();
        let Self { requests, witness, failed, .. } = self;
        requests.retain(|id, request| {
            let open = matches!(request.status, Status::InQueue | Status::InProgress);
            if open && request.submitted + request.ttl <= now {
                witness.ended(id, now, End::Expired);
                return false;
            }
            if let (Status::InProgress, Some((worker, taken)), false) = (request.status, request.taken, request.phantom)
                && taken + request.execution_timeout <= now
            {
                request.end(now, Status::TimedOut);
                *failed += 1;
                witness.ended(id, now, End::TimedOut);
                killed.push(worker);
            }
            request.ended.is_none_or(|ended| ended + KEPT > now)
        });
        for id in killed {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.stopping = true;
                self.orders.push(Order::Kill(id));
            }
        }
    }

    /// Requests that press for a worker, by how long they wait.
    pub(super) fn pressing(&self, now: Millis, waited: Millis) -> usize {
        self.requests.values().filter_map(|request| request.presses(now)).filter(|since| since + waited <= now).count()
    }
}
