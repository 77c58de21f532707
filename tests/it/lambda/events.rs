//! Every file of `events/`, fed to the function that it is for.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use rotoless_contract::awake::worker_path;
use rotoless_contract::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, report_secret, sign_call};
use rotoless_contract::worker::{attempt_path, claim_path};
use rotoless_contract::{Attempt, JobId, WorkerId};
use serde_json::{Value, json};

use super::deployment::{Deployment, WORKER};
use crate::architecture::root;

/// What a file is, and so how it reaches a function.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// An event of API Gateway for the public routes, and the status that it gets.
    Request(u64),
    /// The body of a worker's call, with its name: signed, and for a job that does not exist.
    Call(&'static str),
    /// The body of a message.
    Message,
    /// An event of SQS.
    Batch,
    /// An event of EventBridge.
    Tick,
    /// A call of a worker that drains the queue, about itself.
    Worker(&'static str),
    /// What functions send. As the body of a request it is nothing that anybody asked for.
    Sent(&'static str),
}

const FILES: [(&str, Kind); 34] = [
    ("events/gateway-health.json", Kind::Request(200)),
    ("events/gateway-list.json", Kind::Request(400)),
    ("events/gateway-create.json", Kind::Request(200)),
    ("events/gateway-upload-form.json", Kind::Request(200)),
    ("events/gateway-preflight.json", Kind::Request(200)),
    ("events/gateway-unknown.json", Kind::Request(404)),
    ("events/claim-request.json", Kind::Call("claim")),
    ("events/heartbeat-request.json", Kind::Call("heartbeat")),
    ("events/heartbeat-request-links.json", Kind::Call("heartbeat")),
    ("events/probed-request.json", Kind::Call("probed")),
    ("events/report-completed.json", Kind::Call("report")),
    ("events/report-failed.json", Kind::Call("report")),
    ("events/report-abandoned.json", Kind::Call("report")),
    ("events/awake-request.json", Kind::Worker("awake")),
    ("events/asleep-request.json", Kind::Worker("asleep")),
    ("events/queue-message.json", Kind::Message),
    ("events/wake.json", Kind::Message),
    ("events/sqs-jobs.json", Kind::Batch),
    ("events/schedule.json", Kind::Tick),
    ("events/claim-reply.json", Kind::Sent("claim")),
    ("events/heartbeat-reply.json", Kind::Sent("heartbeat")),
    ("events/heartbeat-reply-links.json", Kind::Sent("heartbeat")),
    ("events/probed-reply.json", Kind::Sent("probed")),
    ("events/report-reply.json", Kind::Sent("report")),
    ("events/manifest.json", Kind::Sent("claim")),
    ("events/webhook-completed.json", Kind::Sent("report")),
    ("events/error.json", Kind::Sent("probed")),
    ("events/awake-reply.json", Kind::Sent("claim")),
    ("events/asleep-reply.json", Kind::Sent("claim")),
    // Between RunPod and a worker, which no function hears.
    ("events/runpod-take.json", Kind::Sent("claim")),
    ("events/runpod-done.json", Kind::Sent("claim")),
    ("events/runpod-done-idle.json", Kind::Sent("claim")),
    ("events/runpod-done-lost.json", Kind::Sent("claim")),
    ("events/runpod-stop.json", Kind::Sent("claim")),
];

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

#[test]
fn no_file_of_events_is_left_out() {
    let there = std::fs::read_dir(root().join("events")).unwrap();
    let name = |file: std::fs::DirEntry| format!("events/{}", file.file_name().to_str().unwrap());
    let there: BTreeSet<String> = there.map(|file| name(file.unwrap())).collect();
    let known: BTreeSet<String> = FILES.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(there, known);
}

/// An event of API Gateway for a worker's call, signed as a worker of this deployment would sign it.
fn call(deployment: &Deployment, call: &str, body: &str) -> Value {
    let environment = &deployment.function("CallbackFunction").environment;
    let first = |name: &str| environment[name].split(',').next().unwrap().to_owned().into();
    let job = JobId::from_random([10; 16]);
    let (path, secret) = match call {
        "claim" => (claim_path(&job), first("FLEET_KEYS")),
        "awake" | "asleep" => (worker_path(&WorkerId::from_random([11; 16]), call), first("FLEET_KEYS")),
        other => {
            (attempt_path(&job, Attempt::FIRST, other), report_secret(&first("REPORT_MASTERS"), &job, Attempt::FIRST))
        }
    };
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let mut event: Value = serde_json::from_str(&read("events/gateway-create.json")).unwrap();
    event["routeKey"] = json!("POST /internal/v1/{proxy+}");
    event["rawPath"] = json!(path);
    event["requestContext"]["http"]["path"] = json!(path);
    event["pathParameters"] = json!({"proxy": path.trim_start_matches("/internal/v1/")});
    event["headers"] = json!({
        "content-type": "application/json", "host": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
        TIMESTAMP_HEADER: now.to_string(), SIGNATURE_HEADER: sign_call(&secret, "POST", &path, now, body.as_bytes()),
    });
    event["body"] = json!(body);
    event
}

fn code_of(answer: &Value) -> Value {
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    body["error"]["code"].clone()
}

fn named(batch: &Value) -> Value {
    let failure = |record: &Value| json!({"itemIdentifier": record["messageId"]});
    json!({"batchItemFailures": batch["Records"].as_array().unwrap().iter().map(failure).collect::<Vec<_>>()})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_reaches_its_function_and_gets_its_answer() {
    let deployment = Deployment::start().await;
    let key = deployment.client("acme", 100.0).await.key;
    for (file, kind) in FILES {
        let text = read(file);
        let parsed = || serde_json::from_str::<Value>(&text).unwrap();
        match kind {
            Kind::Request(status) => {
                let event = serde_json::from_str(&text.replace("API_KEY", &key)).unwrap();
                let answer = deployment.function("ApiFunction").invoke(&event).await.answer();
                assert_eq!(answer["statusCode"], status, "{file}: {answer:#}");
            }
            Kind::Call(name) => {
                let event = call(&deployment, name, &text);
                let answer = deployment.function("CallbackFunction").invoke(&event).await.answer();
                assert_eq!((&answer["statusCode"], code_of(&answer)), (&json!(404), json!("not_found")), "{file}");
            }
            Kind::Worker(name) => {
                let event = call(&deployment, name, &text);
                let answer = deployment.function("CallbackFunction").invoke(&event).await.answer();
                assert_eq!(answer["statusCode"], 200, "{file}: {answer:#}");
            }
            Kind::Sent(name) => {
                let event = call(&deployment, name, &text);
                let answer = deployment.function("CallbackFunction").invoke(&event).await.answer();
                assert_eq!(
                    (&answer["statusCode"], code_of(&answer)),
                    (&json!(400), json!("invalid_request")),
                    "{file}"
                );
            }
            Kind::Message => {
                // With the receipt of a real one: a stale receipt would end it before it is read.
                let send = deployment.clients.sqs.send_message().queue_url(deployment.queue()).message_body(&text);
                let id = send.send().await.unwrap().message_id.unwrap();
                // The order of another file is beside it, and done with at once: its source is nowhere.
                assert_eq!(deployment.poll(10).await.failed, [id], "{file}");
            }
            Kind::Batch => {
                let answer = deployment.function(WORKER).invoke(&parsed()).await.answer();
                assert_eq!(answer, named(&parsed()), "{file}");
            }
            Kind::Tick => {
                let sent = deployment.function("DeliverFunction").invoke(&parsed()).await.answer();
                let swept = deployment.sweep().await;
                assert_eq!((&sent["sent"], &swept["woken"]), (&json!(0), &json!(0)), "{file}: {sent} {swept}");
            }
        }
    }
}
