//! What was seen: the bill, the sessions, the breaches of manners.

use serde_json::Value;

use super::{Millis, SECOND, WorkerId};

/// Billed time of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) worker: WorkerId,
    pub(crate) from: Millis,
    /// None: it still runs.
    pub(crate) to: Option<Millis>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// With these words.
    Done(Value),
    WorkerDied,
    /// The worker gave up to post its result, which was refused each time.
    ResultLost,
    TimedOut,
    /// Its request was deleted under it.
    Expired,
    Cancelled,
}

/// A request at a worker.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) worker: WorkerId,
    pub(crate) request: String,
    pub(crate) taken: Millis,
    pub(crate) ended: Millis,
    pub(crate) end: Option<End>,
    /// Results posted of it.
    posts: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) breaches: Vec<String>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) bill: Vec<Span>,
    /// Workers that said they were not fit, and why.
    pub(crate) unfit: Vec<(WorkerId, String)>,
    pub(crate) pings: u64,
    /// Time of workers that had no work while requests waited: they could not take, or the requests were held back.
    pub(crate) parted: Millis,
    /// Results whose answer was spoilt: they may come again.
    spoilt: Vec<String>,
}

impl Witness {
    pub(crate) fn breach(&mut self, what: String) {
        self.breaches.push(what);
    }

    pub(super) fn started(&mut self, worker: WorkerId, now: Millis) {
        self.bill.push(Span { worker, from: now, to: None });
    }

    pub(super) fn stopped(&mut self, worker: WorkerId, now: Millis) {
        if let Some(span) = self.bill.iter_mut().rev().find(|span| span.worker == worker && span.to.is_none()) {
            span.to = Some(now);
        }
    }

    pub(super) fn took(&mut self, worker: WorkerId, request: &str, now: Millis) {
        let request = request.to_owned();
        self.sessions.push(Session { worker, request, taken: now, ended: now, end: None, posts: 0 });
    }

    pub(super) fn ended(&mut self, request: &str, now: Millis, end: End) {
        let open = self.sessions.iter_mut().rev().find(|session| session.request == request && session.end.is_none());
        if let Some(session) = open {
            (session.ended, session.end) = (now, Some(end));
        }
    }

    /// A result that will be refused, or whose answer will be spoilt.
    pub(crate) fn spoil(&mut self, request: &str) {
        self.spoilt.push(request.to_owned());
    }

    pub(super) fn is_spoilt(&self, request: &str) -> bool {
        self.spoilt.iter().any(|spoilt| spoilt == request)
    }

    pub(super) fn posted(&mut self, worker: WorkerId, request: &str) {
        let allowed = 1 + self.spoilt.iter().filter(|spoilt| *spoilt == request).count();
        let of_worker = |session: &&mut Session| session.request == request && session.worker == worker;
        let Some(session) = self.sessions.iter_mut().rev().find(of_worker) else { return };
        session.posts += 1;
        if session.posts as usize > allowed {
            let breach = format!("{worker} posted {} results of {request}", session.posts);
            self.breaches.push(breach);
        }
    }

    /// Seconds billed until now, each span rounded up.
    pub(crate) fn seconds_billed(&self, now: Millis) -> u64 {
        self.bill.iter().map(|span| span.to.unwrap_or(now).saturating_sub(span.from).div_ceil(SECOND)).sum()
    }

    /// Time that sessions took, of those that came to an end.
    pub(crate) fn time_in_sessions(&self) -> Millis {
        self.sessions.iter().map(|session| session.ended - session.taken).sum()
    }

    /// The same of those that served a message.
    pub(crate) fn time_of_handled(&self) -> Millis {
        let handled =
            |session: &&Session| matches!(&session.end, Some(End::Done(body)) if body["output"]["handled"] == 1);
        self.sessions.iter().filter(handled).map(|session| session.ended - session.taken).sum()
    }

    /// What sessions said at their end.
    pub(crate) fn outputs(&self) -> Vec<&Value> {
        let done = self.sessions.iter().filter_map(|session| match session.end.as_ref()? {
            End::Done(body) => Some(body),
            End::WorkerDied | End::ResultLost | End::TimedOut | End::Expired | End::Cancelled => None,
        });
        done.collect()
    }

    /// Sessions that served a message, and those that found none.
    pub(crate) fn handled(&self) -> (usize, usize) {
        let outputs = self.outputs();
        let handled = outputs.iter().filter(|body| body["output"]["handled"] == 1).count();
        let empty = outputs.iter().filter(|body| body["output"]["handled"] == 0).count();
        (handled, empty)
    }
}
