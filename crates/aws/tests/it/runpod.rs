//! The client of RunPod and its waker, against a stand-in that answers whatever a test wants.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use jiff::Timestamp;
use rotoless_aws::runpod::{Endpoint, EndpointId, Management, Resource, RunPodError, RunPolicy};
use rotoless_aws::wakers::{RunPodSettings, RunPodWaker};
use rotoless_contract::queue::Wake;
use rotoless_core::policy::Policy;
use rotoless_core::ports::{Clock, Retry, StoreError, Waker};
use rotoless_core::wake::Outstanding;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const KEY: &str = "rpa_CALLERS_KEY";
const STOP_KEY: &str = "rpa_STOP_KEY";

/// A request as it came.
#[derive(Debug, Clone)]
struct Heard {
    method: String,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server on a port of the system's choice.
struct StandIn {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Of its waker's clock, in Unix seconds.
    now: Arc<AtomicI64>,
}

impl StandIn {
    /// `answer` is given each request and how many came before it.
    async fn start<A, F>(answer: A) -> Self
    where
        A: Fn(usize, Heard) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let router = Router::new().fallback(move |request: Request| {
            let (answer, log) = (answer.clone(), Arc::clone(&log));
            async move {
                let (parts, body) = request.into_parts();
                let heard = Heard {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    headers: parts.headers,
                    body: to_bytes(body, 1 << 20).await.unwrap(),
                };
                let before = {
                    let mut log = log.lock().unwrap();
                    log.push(heard.clone());
                    log.len() - 1
                };
                answer(before, heard).await
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, heard, now: Arc::new(AtomicI64::new(1_764_000_000)) }
    }

    async fn answering(status: u16, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::start(move |_, _| std::future::ready(answer(status, body.clone()))).await
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.url.parse().unwrap(), EndpointId::parse("ep1").unwrap(), KEY.into())
    }

    fn management(&self) -> Management {
        Management::new(self.url.parse().unwrap(), KEY.into())
    }

    fn waker(&self, stop_key: Option<&str>) -> RunPodWaker {
        let settings = RunPodSettings {
            endpoint_id: EndpointId::parse("ep1").unwrap(),
            api_key: KEY.into(),
            api_url: self.url.parse().unwrap(),
            rest_url: self.url.parse().unwrap(),
            stop_key: stop_key.map(Into::into),
        };
        RunPodWaker::new(&settings, &Policy::default(), Arc::new(At(Arc::clone(&self.now))))
    }
}

fn answer(status: u16, body: impl Into<Body>) -> Response {
    (StatusCode::from_u16(status).unwrap(), body.into()).into_response()
}

struct At(Arc<AtomicI64>);

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

const ACCEPTED: &str = r#"{"id":"eaebd6e7-6a92-4bb8-a911-f996ac5ea99d","status":"IN_QUEUE"}"#;

#[tokio::test]
async fn a_wake_is_a_request_without_content_that_says_how_long_it_may_live() {
    let runpod = StandIn::answering(200, ACCEPTED).await;
    runpod.waker(None).wake(1).await.unwrap();
    let [heard] = &runpod.heard()[..] else { panic!("one post") };
    assert_eq!((&heard.method[..], &heard.target[..]), ("POST", "/v2/ep1/run"));
    assert_eq!(heard.header("authorization"), "Bearer rpa_CALLERS_KEY");
    assert_eq!(heard.header("content-type"), "application/json");
    let expected = json!({
        "input": { "v": 1, "at": 1_764_000_000 },
        // 20 s + 2 h + 60 s; and 24 h more.
        "policy": { "executionTimeout": 7_280_000, "ttl": 93_680_000 },
    });
    assert_eq!(heard.json(), expected);
    let wake: Wake = serde_json::from_value(heard.json()["input"].clone()).unwrap();
    assert_eq!(wake, Wake { v: 1, at: Some(1_764_000_000) });
}

#[tokio::test]
async fn a_wake_that_is_refused_keeps_no_other_and_ten_are_under_way_at_most() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let runpod = StandIn::start(move |before, _| {
        let (now, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for the others to come.
            tokio::time::sleep(Duration::from_millis(100)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            if before == 0 { answer(500, "oh") } else { answer(200, ACCEPTED) }
        }
    })
    .await;
    let outcome = runpod.waker(None).wake(25).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert_eq!(runpod.heard().len(), 25);
    assert_eq!(most.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn no_wake_is_no_request() {
    let runpod = StandIn::answering(200, ACCEPTED).await;
    runpod.waker(None).wake(0).await.unwrap();
    assert!(runpod.heard().is_empty());
}

/// What somebody between us and RunPod may answer.
#[tokio::test]
async fn a_page_is_no_accepted_wake() {
    for page in ["<html>Sign in</html>", "", "{}", r#"{"id":""}"#, r#"{"id":7}"#, "[]", "null"] {
        let runpod = StandIn::answering(200, page).await;
        let outcome = runpod.waker(None).wake(1).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{page}: {outcome:?}");
    }
}

#[tokio::test]
async fn each_refusal_is_of_a_kind_that_its_reader_understands() {
    for status in [301, 302, 400, 401, 403, 404] {
        let runpod = StandIn::answering(status, r#"{"error":"x"}"#).await;
        let outcome = runpod.waker(None).outstanding().await.unwrap_err();
        assert!(matches!(outcome, StoreError::Rejected(_)), "{status}: {outcome:?}");
        assert_eq!(outcome.retry(), Retry::Never);
    }
    for status in [500, 502, 503] {
        let runpod = StandIn::answering(status, "").await;
        let outcome = runpod.waker(None).outstanding().await.unwrap_err();
        assert!(matches!(outcome, StoreError::Unavailable(_)), "{status}: {outcome:?}");
    }
    let runpod = StandIn::answering(429, "").await;
    let outcome = runpod.waker(None).outstanding().await.unwrap_err();
    assert!(matches!(outcome, StoreError::Throttled(_)), "{outcome:?}");
}

#[tokio::test]
async fn nobody_there_is_told_from_an_answer_that_was_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let nobody = StandIn { url, heard: Arc::default(), now: Arc::default() };
    let dropping = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // Reads a little, answers half, and is gone: the listener as well.
        stream.readable().await.unwrap();
        stream.try_write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").unwrap();
    });
    let outcome = nobody.waker(None).wake(1).await.unwrap_err();
    assert!(matches!(outcome, StoreError::Timeout { maybe_applied: true, .. }), "{outcome:?}");
    dropping.await.unwrap();
    let outcome = nobody.waker(None).wake(1).await.unwrap_err();
    assert!(matches!(outcome, StoreError::Unavailable(_)), "{outcome:?}");
}

#[tokio::test]
async fn who_does_not_answer_is_waited_for_two_seconds_and_five() {
    let runpod = StandIn::start(|_, heard| async move {
        let drip = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        match &heard.target[..] {
            // Each byte comes in time, the answer never.
            "/v2/ep1/health" => answer(200, Body::from_stream(drip)),
            _ => std::future::pending().await,
        }
    })
    .await;
    let (endpoint, begun) = (runpod.endpoint(), Instant::now());
    let policy = RunPolicy::of(&Policy::default());
    let (run, health) =
        tokio::join!(async { (endpoint.run(Timestamp::UNIX_EPOCH, policy).await, begun.elapsed()) }, async {
            (endpoint.health().await, begun.elapsed())
        },);
    assert!(matches!(run.0, Err(RunPodError::TimedOut(_))), "{run:?}");
    assert!((2..4).contains(&run.1.as_secs()), "{run:?}");
    assert!(matches!(health.0, Err(RunPodError::TimedOut(_))), "{health:?}");
    assert!((5..8).contains(&health.1.as_secs()), "{health:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_read_up_to_a_bound() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let runpod = StandIn::start(move |_, _| {
        let count = Arc::clone(&count);
        let chunks = futures::stream::iter(0..320).map(move |_| {
            count.fetch_add(64 * 1024, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 * 1024]))
        });
        std::future::ready(answer(200, Body::from_stream(chunks)))
    })
    .await;
    let outcome = runpod.endpoint().health().await;
    assert!(matches!(outcome, Err(RunPodError::TooLarge(_))), "{outcome:?}");
    // What the system's buffers swallowed is not ours to bound; 20 MB were there to be read.
    assert!(sent.load(Ordering::SeqCst) < 16 << 20, "{sent:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = StandIn::answering(200, ACCEPTED).await;
    let to = elsewhere.url.clone();
    let runpod = StandIn::start(move |_, _| {
        let answer = Response::builder().status(307).header("location", format!("{to}/v2/ep1/run"));
        std::future::ready(answer.body(Body::empty()).unwrap())
    })
    .await;
    assert!(matches!(runpod.waker(None).wake(1).await, Err(StoreError::Rejected(_))));
    assert!(elsewhere.heard().is_empty());
}

const HEALTH: &str = r#"{"jobs":{"completed":9,"failed":1,"inProgress":2,"inQueue":3.0,"retried":null},
    "workers":{"idle":1,"initializing":4,"ready":1,"running":2,"throttled":5,"unhealthy":6}}"#;

#[tokio::test]
async fn what_is_outstanding_is_asked_of_health_and_once_a_minute_of_the_endpoint() {
    let runpod = StandIn::start(|_, heard| async move {
        match &heard.target[..] {
            "/v2/ep1/health" => answer(200, HEALTH),
            _ => answer(200, r#"{"id":"ep1","workersMax":3,"new":true}"#),
        }
    })
    .await;
    let waker = runpod.waker(None);
    let expected = Outstanding {
        queued: 3,
        in_progress: 2,
        running: 2,
        idle: 1,
        initializing: 4,
        throttled: 5,
        unhealthy: 6,
        workers_max: Some(3),
    };
    let asked = |target: &str| runpod.heard().iter().filter(|h| h.method == "GET" && h.target == target).count();
    for _ in 0..3 {
        assert_eq!(waker.outstanding().await.unwrap(), expected);
    }
    assert_eq!((asked("/v2/ep1/health"), asked("/v1/endpoints/ep1"), runpod.heard().len()), (3, 1, 4));
    runpod.now.fetch_add(60, Ordering::SeqCst);
    waker.outstanding().await.unwrap();
    assert_eq!((asked("/v2/ep1/health"), asked("/v1/endpoints/ep1")), (4, 2));
}

#[tokio::test]
async fn a_key_that_may_not_read_the_endpoint_still_counts_its_wakes() {
    let refusals = [answer_of(403, "{}"), answer_of(200, "<html>"), answer_of(200, r#"{"id":"ep1"}"#)];
    for (status, body) in refusals {
        let runpod = StandIn::start(move |_, heard| async move {
            if heard.target == "/v2/ep1/health" { answer(200, HEALTH) } else { answer(status, body) }
        })
        .await;
        let waker = runpod.waker(None);
        for _ in 0..2 {
            let outstanding = waker.outstanding().await.unwrap();
            assert_eq!((outstanding.queued, outstanding.workers_max), (3, None));
        }
        // That it is not to be had is believed for a minute, too.
        assert_eq!(runpod.heard().len(), 3);
    }
}

const fn answer_of(status: u16, body: &'static str) -> (u16, &'static str) {
    (status, body)
}

#[tokio::test]
async fn a_purge_says_how_many_wakes_are_gone() {
    let runpod = StandIn::answering(200, r#"{"removed":2,"status":"completed"}"#).await;
    assert_eq!(runpod.waker(None).purge().await.unwrap(), 2);
    let [heard] = &runpod.heard()[..] else { panic!("one post") };
    assert_eq!((&heard.method[..], &heard.target[..]), ("POST", "/v2/ep1/purge-queue"));
}

#[tokio::test]
async fn the_kill_switch_has_a_key_of_its_own_and_is_off_without_it() {
    let runpod = StandIn::answering(200, r#"{"id":"ep1","workersMax":0}"#).await;
    let without = runpod.waker(None).stop().await;
    assert!(matches!(without, Err(StoreError::Rejected(_))), "{without:?}");
    assert!(runpod.heard().is_empty());

    runpod.waker(Some(STOP_KEY)).stop().await.unwrap();
    let [heard] = &runpod.heard()[..] else { panic!("one change") };
    assert_eq!((&heard.method[..], &heard.target[..]), ("PATCH", "/v1/endpoints/ep1"));
    assert_eq!(heard.header("authorization"), "Bearer rpa_STOP_KEY");
    assert_eq!(heard.json(), json!({ "workersMin": 0, "workersMax": 0 }));

    // An answer is no proof, a number is.
    let deaf = StandIn::answering(200, r#"{"id":"ep1","workersMax":3}"#).await;
    assert!(deaf.waker(Some(STOP_KEY)).stop().await.is_err());
}

#[tokio::test]
async fn templates_that_an_endpoint_uses_are_listed_too() {
    let runpod = StandIn::answering(200, r#"[{"id":"t1","name":"a"}]"#).await;
    let list = runpod.management().list(Resource::Template).await.unwrap();
    assert_eq!(list[0]["name"], "a");
    assert_eq!(runpod.heard()[0].target, "/v1/templates?includeEndpointBoundTemplates=true");
    runpod.management().list(Resource::Endpoint).await.unwrap();
    assert_eq!(runpod.heard()[1].target, "/v1/endpoints");
    for odd in [r#"{"items":[]}"#, r#"[{"name":"a"}]"#, r#"[{"id":"../x"}]"#, "[1]"] {
        let runpod = StandIn::answering(200, odd).await;
        assert!(runpod.management().list(Resource::Endpoint).await.is_err(), "{odd}");
    }
}

/// Everything that is logged while a future runs, hyper's words included.
async fn logged<T>(future: impl Future<Output = T>) -> (T, String) {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let value = future.await;
    drop(guard);
    let bytes = sink.0.lock().unwrap().clone();
    (value, String::from_utf8(bytes).unwrap())
}

/// RunPod may repeat to us whatever we said.
#[tokio::test]
async fn no_key_and_no_value_of_the_environment_is_in_an_error_or_a_log() {
    let runpod = StandIn::start(|_, heard| async move {
        let said = format!("bad request: {} {}", heard.header("authorization"), String::from_utf8_lossy(&heard.body));
        answer(400, said)
    })
    .await;
    let secret = "word \"in\" quotes";
    let template = json!({ "name": "t", "imageName": "i:1", "env": { "FLEET_KEY": secret, "PLAIN": "" } });
    let ((errors, said), log) = logged(async {
        let management = runpod.management();
        let created = management.create(Resource::Template, template.as_object().unwrap()).await.unwrap_err();
        let RunPodError::Refused { said, .. } = &created else { panic!("{created:?}") };
        let said = said.clone();
        let waker = runpod.waker(Some(STOP_KEY));
        let others = [waker.wake(3).await.err(), waker.stop().await.err(), waker.outstanding().await.err()];
        (format!("{created} {created:?} {others:?} {waker:?} {management:?}"), said)
    })
    .await;
    assert!(log.contains("wakes were not accepted"), "{log}");
    assert!(said.starts_with("bad request: Bearer ***") && said.contains(r#""imageName":"i:1""#), "{said}");
    for told in [&errors, &log] {
        for secret in [KEY, STOP_KEY, secret, "in\\\" quotes", "127.0.0.1:1"] {
            assert!(!told.contains(secret), "{secret} is in {told}");
        }
    }
}
