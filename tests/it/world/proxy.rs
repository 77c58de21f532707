//! A proxy between real processes, which knows each exchange by what it is and does to it what its rules say.
//!
//! Owns: ports, one for whoever is behind it (a worker, a client); the names of exchanges; faults. Does not own: who is
//! started and killed besides by a rule (`fleet`), what a fault should lead to (the tests).
//! Invariants: what no rule names is passed on unchanged; links in a claim's answer lead to the claimant's own port, so
//! that every exchange of a worker is known as its; a queue's calls are signed anew, for the queue insists on its name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod names;
pub(crate) mod queue_signature;
mod rules;

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use futures::stream;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use self::names::{named, received};
pub(crate) use self::rules::{EVER, Exchange, Fault, Moment, Rule, Trap};

/// An exchange that took place.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "port and attempt are for those who read why a test failed")]
pub(crate) struct Seen {
    port: usize,
    pub(crate) exchange: Exchange,
    pub(crate) job: Option<String>,
    attempt: Option<u64>,
    /// The service's answer, whether it was passed on or not.
    pub(crate) status: Option<u16>,
}

/// Where everything leads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstream {
    /// Host and port of the service.
    pub(crate) service: String,
    /// Host and port of the queue.
    pub(crate) queue: String,
    /// The queue's secret key.
    pub(crate) secret: String,
}

struct Shared {
    http: reqwest::Client,
    upstream: Mutex<Upstream>,
    traps: Mutex<Vec<Trap>>,
    seen: Mutex<Vec<Seen>>,
}

/// All ports and their rules.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Shared>);

impl Proxy {
    pub(crate) fn new() -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Self(Arc::new(Shared {
            http: http.pool_max_idle_per_host(0).build().unwrap(),
            upstream: Mutex::default(),
            traps: Mutex::default(),
            seen: Mutex::default(),
        }))
    }

    /// From now on everything leads there.
    pub(crate) fn lead_to(&self, upstream: Upstream) {
        *self.0.upstream.lock().unwrap() = upstream;
    }

    pub(crate) fn set(&self, rule: Rule) -> Trap {
        let trap = Trap::new(rule);
        self.0.traps.lock().unwrap().push(trap.clone());
        trap
    }

    /// Rules that nothing was done to yet as often as they say, but for those without a bound.
    pub(crate) fn unmet(&self) -> Vec<Rule> {
        let traps = self.0.traps.lock().unwrap();
        let unmet = traps.iter().filter(|trap| trap.0.rule.times < EVER && !trap.is_met());
        unmet.map(|trap| trap.0.rule.clone()).collect()
    }

    /// Everything of a job, in its order.
    pub(crate) fn seen(&self, job: &str) -> Vec<Seen> {
        self.0.seen.lock().unwrap().iter().filter(|seen| seen.job.as_deref() == Some(job)).cloned().collect()
    }

    /// The answers to one kind of exchange of a job.
    pub(crate) fn answers(&self, job: &str, exchange: Exchange) -> Vec<Option<u16>> {
        self.seen(job).into_iter().filter(|seen| seen.exchange == exchange).map(|seen| seen.status).collect()
    }

    /// Opens a port; `number` is its name.
    pub(crate) async fn port(&self, number: usize) -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let victim = Arc::new(AtomicI32::new(0));
        let behind = Behind {
            proxy: self.clone(),
            number,
            address: address.clone(),
            victim: Arc::clone(&victim),
            work: Mutex::default(),
        };
        Port { address, victim, server: tokio::spawn(serve(listener, Arc::new(behind))) }
    }
}

/// An open port.
pub(crate) struct Port {
    /// Host and port.
    pub(crate) address: String,
    victim: Arc<AtomicI32>,
    server: JoinHandle<()>,
}

impl Port {
    /// Whom faults at this port hit.
    pub(crate) fn hits(&self, process: i32) {
        self.victim.store(process, Ordering::SeqCst);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Whoever calls by a port.
struct Behind {
    proxy: Proxy,
    number: usize,
    address: String,
    victim: Arc<AtomicI32>,
    /// The job and the attempt that a worker has, as its calls show.
    work: Mutex<(Option<String>, Option<u64>)>,
}

/// No answer.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gone")
    }
}

impl std::error::Error for Gone {}

struct Answer {
    status: u16,
    headers: hyper::HeaderMap,
    body: Bytes,
}

async fn serve(listener: TcpListener, behind: Arc<Behind>) {
    // Connections end with the port.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&behind)));
    }
}

async fn converse(stream: TcpStream, behind: Arc<Behind>) {
    let service = service_fn(move |request| {
        let behind = Arc::clone(&behind);
        async move { behind.answer(request).await }
    });
    // Broken connections are what this is for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Behind {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Gone> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
        let (exchange, mut job, mut attempt) = named(&parts);
        if job.is_none() && exchange != Exchange::Receive {
            (job, attempt) = self.work.lock().unwrap().clone();
        }
        let met = self.met(exchange, job.as_deref(), attempt, &body);
        if let Some(trap) = &met {
            self.at(Moment::Before, trap).await?;
        }
        let made_up = match met.as_ref().map(|trap| trap.0.rule.fault) {
            Some(Fault::Status(status)) => Some((status, "{}")),
            Some(Fault::Page) => Some((200, "<!DOCTYPE html><title>Sign in</title><p>Welcome to the network!")),
            Some(_) | None => None,
        };
        if let Some((status, text)) = made_up {
            self.record(exchange, job, attempt, None);
            let answer = Response::builder().status(status).header(CONTENT_TYPE, "text/html; charset=utf-8");
            return Ok(answer.body(Full::new(Bytes::from_static(text.as_bytes()))).unwrap());
        }
        let answer = self.pass_on(&parts, &body, met.as_ref()).await;
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let late = match (&answer, exchange) {
            (Ok(answer), Exchange::Receive) => {
                job = received(&answer.body);
                *self.work.lock().unwrap() = (job.clone(), None);
                // Only the answer says whose it is.
                if met.is_none() && job.is_some() { self.met(exchange, job.as_deref(), None, &body) } else { None }
            }
            (Ok(answer), Exchange::Claim) if answer.status == 200 => {
                attempt = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["attempt"].as_u64();
                *self.work.lock().unwrap() = (job.clone(), attempt);
                None
            }
            (Ok(_) | Err(_), _) => None,
        };
        self.record(exchange, job, attempt, status);
        if let Some(trap) = met.or(late) {
            self.at(Moment::Between, &trap).await?;
        }
        let answer = answer?;
        let mut response = Response::new(Full::new(answer.body));
        *response.status_mut() = answer.status.try_into().unwrap();
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    fn met(&self, exchange: Exchange, job: Option<&str>, attempt: Option<u64>, body: &[u8]) -> Option<Trap> {
        let body = String::from_utf8_lossy(body);
        let fits = |rule: &Rule| {
            rule.exchange == exchange
                && rule.job.as_deref().is_none_or(|wanted| job == Some(wanted))
                && rule.attempt.is_none_or(|wanted| attempt == Some(wanted))
                && body.contains(rule.says)
        };
        let traps = self.proxy.0.traps.lock().unwrap();
        traps.iter().find(|trap| fits(&trap.0.rule) && trap.begin()).cloned()
    }

    fn record(&self, exchange: Exchange, job: Option<String>, attempt: Option<u64>, status: Option<u16>) {
        let seen = Seen { port: self.number, exchange, job, attempt, status };
        self.proxy.0.seen.lock().unwrap().push(seen);
    }

    fn signal(&self, signal: Signal) {
        let victim = self.victim.load(Ordering::SeqCst);
        assert!(victim > 0, "port {} has no victim", self.number);
        kill(Pid::from_raw(victim), signal).unwrap();
    }

    /// Does what the fault says, if this is its moment.
    async fn at(&self, moment: Moment, trap: &Trap) -> Result<(), Gone> {
        if trap.0.rule.fault.moment() != moment {
            return Ok(());
        }
        trap.come(self.number);
        self.suffer(trap).await
    }

    async fn suffer(&self, trap: &Trap) -> Result<(), Gone> {
        match trap.0.rule.fault {
            Fault::Kill(_) => {
                self.signal(Signal::SIGKILL);
                return Err(Gone);
            }
            Fault::KillAfter(long) => {
                let victim = self.victim.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    tokio::time::sleep(long).await;
                    let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
                });
            }
            Fault::Freeze(moment) => {
                self.signal(Signal::SIGSTOP);
                trap.opened().await;
                if moment == Moment::Between {
                    self.signal(Signal::SIGCONT);
                }
            }
            Fault::Hold(_) => trap.opened().await,
            Fault::Delay(long) => tokio::time::sleep(long).await,
            Fault::LoseAnswer | Fault::BreakOff => return Err(Gone),
            Fault::Status(_) | Fault::Page | Fault::Twice => {}
        }
        Ok(())
    }

    async fn pass_on(&self, parts: &Parts, body: &Bytes, met: Option<&Trap>) -> Result<Answer, Gone> {
        let fault = met.map(|trap| trap.0.rule.fault);
        let first = self.call(parts, body, fault == Some(Fault::BreakOff)).await;
        if fault == Some(Fault::Freeze(Moment::Before)) {
            self.signal(Signal::SIGCONT);
        }
        if fault == Some(Fault::Twice) { self.call(parts, body, false).await } else { first }
    }

    async fn call(&self, parts: &Parts, body: &Bytes, half: bool) -> Result<Answer, Gone> {
        let upstream = self.proxy.0.upstream.lock().unwrap().clone();
        let (mut headers, mut body, host) = (parts.headers.clone(), body.clone(), &upstream.service);
        headers.remove(HOST);
        let host = if headers.contains_key("x-amz-target") {
            body = replaced(&body, &self.address, &upstream.queue);
            queue_signature::sign((&upstream.queue, &upstream.secret), parts, &mut headers, &body);
            &upstream.queue
        } else {
            host
        };
        headers.insert(CONTENT_LENGTH, body.len().into());
        let url = format!("http://{host}{}", parts.uri.path_and_query().unwrap());
        let sent = if half {
            let part = body.slice(..body.len() / 2);
            reqwest::Body::wrap_stream(stream::iter([Ok(part), Err(std::io::Error::other("broken off"))]))
        } else {
            body.into()
        };
        let request = self.proxy.0.http.request(parts.method.clone(), url).headers(headers).body(sent);
        let response = request.send().await.map_err(|_| Gone)?;
        let (status, mut headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(|_| Gone)?;
        let body = replaced(&body, &upstream.service, &self.address);
        headers.remove(hyper::header::TRANSFER_ENCODING);
        if parts.method != hyper::Method::HEAD {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        Ok(Answer { status, headers, body })
    }
}

fn replaced(body: &Bytes, old: &str, new: &str) -> Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if text.contains(old) => text.replace(old, new).into(),
        Ok(_) | Err(_) => body.clone(),
    }
}
