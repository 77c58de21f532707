//! What a worker does, as far as anybody outside can see: boot, take, poll, work, say so, take again.

use serde_json::{Value, json};

use super::super::platform::{Millis, Offer, Route, SECOND, Trouble, WorkerId};
use super::{State, VISIBILITY};

/// A poll of the queue.
const POLL: Millis = 20 * SECOND;
/// And of a worker whose wake is old, and how old that is.
const SHORT_POLL: Millis = 5 * SECOND;
const OLD: Millis = 60 * SECOND;
/// RunPod lets a take wait for so long.
const TAKE: Millis = 30 * SECOND;
/// Between two tries to post a result, and how many there are.
const POST_AGAIN: Millis = 10 * SECOND;
const POSTS: u32 = 5;

#[derive(Debug)]
enum Doing {
    Pausing {
        until: Millis,
    },
    Asking {
        take: u64,
        until: Millis,
    },
    Polling {
        request: String,
        until: Millis,
    },
    Working {
        request: String,
        job: usize,
        until: Millis,
    },
    Posting {
        request: String,
        body: Value,
        tries: u32,
        next: Millis,
    },
    /// Its watchdog ends the process then; none: it has none.
    Hanging {
        until: Option<Millis>,
    },
}

/// A worker's process.
#[derive(Debug)]
pub(super) struct Model {
    doing: Doing,
    is_frozen: bool,
}

impl Model {
    pub(super) fn booting(until: Millis) -> Self {
        Self { doing: Doing::Pausing { until }, is_frozen: false }
    }

    /// A worker that polls from then on, whoever started it, and ends with its first session.
    pub(super) fn alone(from: Millis) -> Self {
        Self::booting(from)
    }

    pub(super) fn freeze(&mut self) {
        self.is_frozen = true;
    }

    pub(super) fn thaw(&mut self, now: Millis) {
        self.is_frozen = false;
        if let Doing::Asking { .. } = self.doing {
            // Its connection is gone.
            self.doing = Doing::Pausing { until: now + SECOND };
        }
    }

    /// In the middle of its work it does nothing any more.
    pub(super) fn hang(&mut self, until: Option<Millis>) {
        if self.job().is_some() {
            self.doing = Doing::Hanging { until };
        }
    }

    /// Its watchdog ends it now.
    pub(super) fn gives_up(&self, now: Millis) -> bool {
        matches!(self.doing, Doing::Hanging { until: Some(until) } if until <= now) && !self.is_frozen
    }

    pub(super) fn is_booting(&self, now: Millis) -> bool {
        matches!(self.doing, Doing::Pausing { until } if until > now)
    }

    /// What it works at.
    pub(super) fn job(&self) -> Option<usize> {
        if let Doing::Working { job, .. } = self.doing { Some(job) } else { None }
    }

    pub(super) fn advance(&mut self, site: &mut State, id: WorkerId) {
        if self.is_frozen {
            return;
        }
        let now = site.now;
        let next = match &mut self.doing {
            Doing::Hanging { .. } => None,
            Doing::Pausing { until } => (*until <= now).then(|| ask(site, id)),
            Doing::Asking { take, until } => {
                let (take, is_over) = (*take, *until <= now);
                asked(site, id, take, is_over)
            }
            Doing::Polling { request, until } => match receive(site) {
                Some(job) => Some(Doing::Working { request: request.clone(), job, until: now + site.pace.work }),
                None => (*until <= now).then(|| posting(request, json!({"handled": 0, "idle": true}), now)),
            },
            Doing::Working { request, job, until } => {
                let (job, is_over) = (*job, *until <= now);
                work(site, job, is_over);
                is_over.then(|| posting(request, json!({"handled": 1, "job": job, "attempt": 1}), now))
            }
            Doing::Posting { request, body, tries, next } => {
                (*next <= now).then(|| post(site, id, request, body, *tries))
            }
        };
        if let Some(next) = next {
            self.doing = next;
        }
    }

    /// Without an endpoint: one session, then the end. `false` at the end.
    pub(super) fn advance_alone(&mut self, site: &mut State) -> bool {
        let now = site.now;
        match &self.doing {
            Doing::Pausing { until } => {
                if *until <= now {
                    self.doing = Doing::Polling { request: String::new(), until: now + POLL };
                }
                true
            }
            Doing::Polling { request, until } => {
                let until = *until;
                if let Some(job) = receive(site) {
                    self.doing = Doing::Working { request: request.clone(), job, until: now + site.pace.work };
                    return true;
                }
                until > now
            }
            Doing::Working { job, until, .. } => {
                work(site, *job, *until <= now);
                *until > now
            }
            Doing::Asking { .. } | Doing::Posting { .. } | Doing::Hanging { .. } => false,
        }
    }
}

fn ask(site: &mut State, id: WorkerId) -> Doing {
    let now = site.now;
    match site.platform.faults.meet(Route::Take) {
        Some(Trouble::Hang) => return Doing::Pausing { until: now + 90 * SECOND },
        Some(Trouble::Refuse(429)) => return Doing::Pausing { until: now + 5 * SECOND },
        Some(Trouble::Refuse(_) | Trouble::Deny(_)) => return Doing::Pausing { until: now + 15 * SECOND },
        None => {}
    }
    match site.platform.take(now, id, false) {
        Ok(take) => Doing::Asking { take, until: now + TAKE },
        Err(_) => Doing::Pausing { until: now + 5 * SECOND },
    }
}

fn asked(site: &mut State, id: WorkerId, take: u64, is_over: bool) -> Option<Doing> {
    let now = site.now;
    let next = match site.platform.offer(now, id, take, 1) {
        Offer::Jobs(jobs) => {
            let at = jobs[0]["input"]["at"].as_u64().unwrap_or(0) * SECOND;
            let poll = if at + OLD < now { SHORT_POLL } else { POLL };
            Doing::Polling { request: jobs[0]["id"].as_str().unwrap().to_owned(), until: now + poll }
        }
        Offer::Cut => Doing::Pausing { until: now + SECOND },
        Offer::Wait if is_over => Doing::Pausing { until: now },
        Offer::Wait => return None,
    };
    site.platform.withdraw(id, take);
    Some(next)
}

/// A visible message, invisible from now on.
fn receive(site: &mut State) -> Option<usize> {
    let now = site.now;
    let message = site.queue.iter_mut().find(|message| message.visible <= now)?;
    message.visible = now + VISIBILITY;
    let job = message.job;
    site.jobs[job].started.get_or_insert(now);
    site.jobs[job].attempts += 1;
    Some(job)
}

/// Keeps the message; at the end deletes it.
fn work(site: &mut State, job: usize, is_over: bool) {
    let now = site.now;
    if is_over {
        site.jobs[job].done.get_or_insert(now);
        site.queue.retain(|message| message.job != job);
    } else {
        site.queue
            .iter_mut()
            .filter(|message| message.job == job)
            .for_each(|message| message.visible = now + VISIBILITY);
    }
}

fn posting(request: &str, output: Value, now: Millis) -> Doing {
    Doing::Posting { request: request.to_owned(), body: json!({"output": output}), tries: 0, next: now }
}

fn post(site: &mut State, id: WorkerId, request: &str, body: &Value, tries: u32) -> Doing {
    let now = site.now;
    let trouble = site.platform.faults.meet(Route::Done);
    if trouble.is_some() {
        site.platform.witness.spoil(request);
    }
    let is_lost = match trouble {
        Some(Trouble::Refuse(_) | Trouble::Hang) => true,
        Some(Trouble::Deny(_)) => {
            let _ = site.platform.done(now, id, request, body);
            true
        }
        // Refused for good: its request was deleted.
        None => {
            let _ = site.platform.done(now, id, request, body);
            false
        }
    };
    if is_lost && tries + 1 < POSTS {
        return Doing::Posting {
            request: request.to_owned(),
            body: body.clone(),
            tries: tries + 1,
            next: now + POST_AGAIN,
        };
    }
    ask(site, id)
}
