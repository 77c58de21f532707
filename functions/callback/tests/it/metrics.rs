//! What is counted of what workers say: committed changes, each once; and the lines that say so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use rotoless_aws::system::SystemEntropy;
use rotoless_aws::wakers::InProcessWaker;
use rotoless_contract::worker::{FailureReason, ReportRequest};
use rotoless_core::policy::Policy;
use rotoless_core::usecase::{Cancel, Sweep};
use rotoless_telemetry::{JsonLines, Metric, Metrics, filter, watched};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use crate::world::{FLEET, PRICE, World};

/// What was told, a line each.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Value>>>);

impl Told {
    fn metrics(&self) -> Metrics {
        let told = self.clone();
        Metrics::to("prod", move |line| told.0.lock().unwrap().push(serde_json::from_str(line).unwrap()))
    }

    fn lines(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    /// The sum of each metric. Every line on the way is checked against CloudWatch's schema.
    fn sums(&self) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for line in self.lines() {
            for (name, values) in figures(&line) {
                *sums.entry(name).or_default() += values.iter().sum::<f64>();
            }
        }
        sums
    }
}

/// The figures of a line, which must be one that CloudWatch takes: the specification of the embedded metric format.
fn figures(line: &Value) -> Vec<(String, Vec<f64>)> {
    assert!(line["_aws"]["Timestamp"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{line}");
    let [directive] = line["_aws"]["CloudWatchMetrics"].as_array().unwrap().as_slice() else { panic!("{line}") };
    assert_eq!(
        (&directive["Namespace"], &directive["Dimensions"]),
        (&"Rotoless".into(), &serde_json::json!([["Stack"]]))
    );
    assert_eq!(line["Stack"], "prod");
    let declared = directive["Metrics"].as_array().unwrap();
    assert!((1..=100).contains(&declared.len()), "{line}");
    let of = |metric: &Value| {
        let name = metric["Name"].as_str().unwrap();
        let known = Metric::ALL.iter().find(|known| known.name() == name).unwrap();
        assert_eq!(metric["Unit"], known.unit().as_str());
        let values = match line[name].as_array() {
            Some(values) => values.iter().map(|value| value.as_f64().unwrap()).collect(),
            None => vec![line[name].as_f64().unwrap()],
        };
        assert!((1..=100).contains(&values.len()), "{line}");
        (name.to_owned(), values)
    };
    declared.iter().map(of).collect()
}

fn sums<const N: usize>(expected: [(Metric, f64); N]) -> BTreeMap<String, f64> {
    expected.map(|(metric, sum)| (metric.name().to_owned(), sum)).into()
}

/// Reported five times at once and again after the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_job_is_counted_once_however_often_it_is_reported() {
    let (world, told) = (World::new().await, Told::default());
    let router = world.counted(told.metrics());
    let id = world.job().await;
    let ask = async |call: &crate::world::Call| world.ask(&router, call.request().unwrap()).await;
    let claim = world.claim(&id).await;
    world.pass(40);
    let call = world.attempt_call(&claim, "report", &world.finish_work(&claim).await);
    for reply in join_all((0..5).map(|_| ask(&call))).await {
        assert_eq!(reply.status, 200);
    }
    ask(&call).await;
    let lines = told.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(
        told.sums(),
        sums([
            (Metric::JobsCompleted, 1.0),
            (Metric::AttemptSeconds, 40.0),
            // A clip of a second.
            (Metric::WorkerSecondsPerOutputSecond, 40.0),
            (Metric::CreditsCaptured, PRICE.0 as f64),
        ])
    );
    assert_eq!((&lines[0]["job.id"], &lines[0]["attempt"]), (&id.to_string().into(), &1.into()));
    assert_eq!((&lines[0]["client.id"], &lines[0]["attempt.outcome"]), (&"acme".into(), &"completed".into()));
}

/// What a run cost is what all its attempts cost, those that came to nothing too.
#[tokio::test]
async fn a_run_s_worker_time_is_that_of_all_its_attempts_and_a_lost_one_is_timed_once() {
    let (world, told) = (World::new().await, Told::default());
    let router = world.counted(told.metrics());
    let id = world.job().await;
    for seconds in [10, 25] {
        let claim = world.claim(&id).await;
        world.pass(seconds);
        let failed = ReportRequest::Failed { reason: FailureReason::InternalError, detail: String::new() };
        let call = world.attempt_call(&claim, "report", &failed);
        assert_eq!(world.ask(&router, call.request().unwrap()).await.status, 200);
    }
    assert_eq!(told.sums(), sums([(Metric::AttemptSeconds, 35.0)]), "the run goes on: no job has failed");
    let claim = world.claim(&id).await;
    world.pass(5);
    let call = world.attempt_call(&claim, "report", &world.finish_work(&claim).await);
    assert_eq!(world.ask(&router, call.request().unwrap()).await.status, 200);
    let sums = told.sums();
    assert_eq!((sums["AttemptSeconds"], sums["WorkerSecondsPerOutputSecond"]), (40.0, 40.0));
}

/// The sweep finds a finished job whose worker died before it could say so, after another had begun.
#[tokio::test]
async fn a_job_that_the_sweep_adopts_is_counted_as_completed_and_no_attempt_twice() {
    let (world, told) = (World::new().await, Told::default());
    let id = world.job().await;
    let first = world.claim(&id).await;
    world.finish_work(&first).await;
    let sweep = Sweep {
        jobs: watched(world.store.clone(), told.metrics()),
        objects: world.objects.clone(),
        queue: world.queue.clone(),
        waker: Arc::new(InProcessWaker),
        clock: world.clock.clone(),
        entropy: Arc::new(SystemEntropy),
        policy: Arc::new(Policy::default()),
    };
    world.pass(150);
    let swept = sweep.tick().await.unwrap();
    assert_eq!((swept.adopted, swept.oldest_due_seconds), (1, 30), "the lease was 120 s");
    sweep.tick().await.unwrap();
    assert_eq!(told.lines().len(), 1);
    assert_eq!((told.sums()["JobsCompleted"], told.sums()["AttemptSeconds"]), (1.0, 150.0));
}

/// Every way that a job and its credits can go, and what is left is what is held.
#[tokio::test]
async fn what_was_held_and_neither_charged_nor_given_back_is_what_is_held_now() {
    let (world, told) = (World::new().await, Told::default());
    let jobs = watched(world.store.clone(), told.metrics());
    let router = world.counted(told.metrics());
    let completed = world.job_by(jobs.clone()).await;
    let failed = world.job_by(jobs.clone()).await;
    let cancelled = world.job_by(jobs.clone()).await;
    let _open = world.job_by(jobs.clone()).await;
    let claim = world.claim(&completed).await;
    let probed = world.attempt_call(&claim, "probed", &world.measured(7_000));
    assert_eq!(world.ask(&router, probed.request().unwrap()).await.status, 200);
    let call = world.attempt_call(&claim, "report", &world.finish_work(&claim).await);
    assert_eq!(world.ask(&router, call.request().unwrap()).await.status, 200);
    let claim = world.claim(&failed).await;
    let report = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: String::new() };
    let call = world.attempt_call(&claim, "report", &report);
    assert_eq!(world.ask(&router, call.request().unwrap()).await.status, 200);
    let (entropy, policy) = (Arc::new(SystemEntropy), Arc::new(Policy::default()));
    let cancel = Cancel { jobs, clock: world.clock.clone(), entropy, policy };
    for _ in 0..2 {
        cancel.cancel(&"acme".parse().unwrap(), &cancelled).await.unwrap();
    }
    let sums = told.sums();
    let of = |metric: Metric| sums.get(metric.name()).copied().unwrap_or_default();
    let counts = [Metric::JobsCreated, Metric::JobsCompleted, Metric::JobsFailed, Metric::JobsCancelled].map(of);
    assert_eq!(counts, [4.0, 1.0, 1.0, 1.0], "{sums:?}");
    let balance = world.balance().await;
    let [held, captured, released] = [Metric::CreditsHeld, Metric::CreditsCaptured, Metric::CreditsReleased].map(of);
    assert_eq!((captured, held - captured - released), (balance.used.0 as f64, balance.held.0 as f64));
    assert!(released > 0.0 && balance.held.0 > 0, "{sums:?}");
    let failure = told.lines().into_iter().find(|line| line.get("JobsFailed").is_some()).unwrap();
    assert_eq!(failure["job.error_code"], "invalid_media");
    assert_eq!(of(Metric::CreditInvariantBroken), 0.0);
}

/// G-37: what is logged of a call can be found again by its job, and opens nothing.
#[tokio::test]
async fn every_line_of_a_worker_s_call_carries_its_ids_and_no_secret() {
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let kept = lines.clone();
    let layer = JsonLines::new(move |line: &str| kept.lock().unwrap().push(line.to_owned()));
    let layer = layer.with_filter(filter(&|name| {
        (name == "RUST_LOG").then(|| "info,rotoless_callback=trace,rotoless_core=trace".to_owned())
    }));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let world = World::new().await;
    let id = world.job().await;
    lines.lock().unwrap().clear();
    let claim = world.claim(&id).await;
    let report = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: "two\nlines".to_owned() };
    let call = world.attempt_call(&claim, "report", &report);
    assert_eq!(world.send(&call).await.status, 200);
    let lines: Vec<Value> = lines.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| line["message"] == "attempt failed" && line["detail"] == "two lines"),
        "{lines:#?}"
    );
    for line in &lines {
        assert!(line["request.id"].as_str().unwrap().starts_with("req_"), "{line}");
        assert_eq!(line["job.id"], id.to_string(), "{line}");
    }
    let answered: Vec<_> = lines.iter().filter(|line| line["message"] == "answered").collect();
    let routes =
        answered.iter().map(|line| (line["http.route"].as_str().unwrap(), &line["attempt"], &line["http.status"]));
    let attempt = &Value::from(1);
    let expected = [
        ("/internal/v1/jobs/{id}/claim", attempt, &Value::from(200)),
        ("/internal/v1/jobs/{id}/attempts/{attempt}/report", attempt, &Value::from(200)),
    ];
    assert_eq!(routes.collect::<Vec<_>>(), expected);
    let token = world.record(&id).await.claim_token.unwrap().0;
    for secret in [FLEET, claim.report_secret.expose_secret(), &token, &call.signature, "X-Amz-Signature"] {
        assert!(!lines.iter().any(|line| line.to_string().contains(secret)), "{secret} is in the log");
    }
}

/// The alarm that must never ring can.
#[tokio::test]
async fn a_balance_that_does_not_add_up_is_told_when_credits_are_settled() {
    let (world, told) = (World::new().await, Told::default());
    let id = world.job().await;
    let claim = world.claim(&id).await;
    world.lose_credits(1).await;
    let call = world.attempt_call(&claim, "report", &world.finish_work(&claim).await);
    assert_eq!(world.ask(&world.counted(told.metrics()), call.request().unwrap()).await.status, 200);
    assert_eq!(told.sums()["CreditInvariantBroken"], 1.0);
}
