//! What nobody should send, and functions that lack what they need.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};

use super::deployment::{Deployment, FUNCTIONS, WORKER};
use super::runtime_api::Outcome;
use super::sandbox::Function;
use crate::world::client::send;

/// What the gateway functions answer to events that are none of the gateway's.
fn strange_events() -> Vec<Value> {
    let event = |change: fn(&mut Value)| {
        let mut event = serde_json::from_str(include_str!("../../../events/gateway-upload-form.json")).unwrap();
        change(&mut event);
        event
    };
    vec![
        json!({}),
        json!(null),
        json!("a text"),
        json!([1, 2]),
        json!({"Records": []}),
        serde_json::from_str(include_str!("../../../events/schedule.json")).unwrap(),
        event(|event| event["body"] = json!("this is not base64!")),
        event(|event| event["headers"]["host"] = json!("a host of [no] kind")),
        event(|event| event["requestContext"] = json!({})),
        event(|event| event["rawQueryString"] = json!("a=\u{7f} \n")),
    ]
}

/// G-35: the same envelope whatever came, and the process goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_in_our_envelope_and_ends_no_process() {
    let deployment = Deployment::start().await;
    for name in ["ApiFunction", "CallbackFunction"] {
        let function = deployment.function(name);
        for event in strange_events() {
            let answer = function.invoke(&event).await.answer();
            let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
            let status = answer["statusCode"].as_u64().unwrap();
            assert!((400..500).contains(&status), "{name}, {event}: {answer:#}");
            assert!(body["error"]["code"].is_string() && body["error"]["request_id"].is_string(), "{answer:#}");
        }
        assert_eq!(function.started(), 1, "{name} went on");
    }
    assert_eq!(deployment.door().get("/health").await.status, 200);
}

/// The others' events carry nothing; the worker's are refused as a whole, and its process goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_none_is_an_error_and_ends_no_process() {
    let deployment = Deployment::start().await;
    let worker = deployment.function(WORKER);
    for event in [json!({}), json!(null), json!({"Records": [{"messageId": "1"}]}), json!({"Records": 7})] {
        assert!(matches!(worker.invoke(&event).await, Outcome::Failed(_)), "{event}");
    }
    assert_eq!(worker.invoke(&json!({"Records": []})).await.answer(), json!({"batchItemFailures": []}));
    for name in ["DeliverFunction", "SweepFunction"] {
        for event in [json!({}), json!("a text"), json!({"detail": {"unheard": "of"}})] {
            assert!(matches!(deployment.function(name).invoke(&event).await, Outcome::Answered(_)), "{name}: {event}");
        }
        assert_eq!(deployment.function(name).started(), 1);
    }
    assert_eq!(worker.started(), 1);
}

/// R3: up to what an event can carry our words say where larger files go; beyond, the gateway answers in its own name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_too_large_for_a_function_is_told_where_to_go() {
    let deployment = Deployment::start().await;
    let client = deployment.client("acme", 1.0).await;
    let upload = async |bytes: usize| {
        let path = deployment.scratch().join("large.mp4");
        let mut file = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom".to_vec();
        file.resize(bytes, 7);
        std::fs::write(&path, file).unwrap();
        client.send_form(&path).await
    };
    assert_eq!(upload(4_000_000).await.status, 200);
    let refused = upload(4_600_000).await;
    assert!(refused.status == 400 || refused.status == 413, "{:#}", refused.json);
    let message = refused.json["error"]["message"].as_str().unwrap_or_else(|| panic!("{:#}", refused.json));
    assert!(message.contains("/v1/uploads"), "{message}");
    let beyond = upload(5_000_000).await;
    assert_eq!((beyond.status, &beyond.json), (413, &json!({"message": "Request Entity Too Large"})));
    assert_eq!(deployment.function("ApiFunction").started(), 1);
}

/// A function cannot stream: whoever asks for a live story gets the story so far, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_story_is_answered_at_once_with_what_there_is() {
    let deployment = Deployment::start().await;
    let client = deployment.client("acme", 10.0).await;
    let clip = crate::world::media::Clip::SMALL.make(deployment.scratch());
    let id = client.order(&client.upload(&clip).await).await;
    let began = Instant::now();
    let path = format!("/v1/jobs/{id}/events");
    let reply = send(client.request(Method::GET, &path).header("Accept", "text/event-stream")).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    assert_eq!(reply.json["items"][0]["status"], "created");
}

/// Without any of the keys that the template gives it and that have no default, a function does not start, and its log
/// says which one it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_without_a_key_of_its_environment_does_not_start_and_says_which() {
    let deployment = Deployment::start().await;
    for (name, _) in FUNCTIONS {
        let function = deployment.function(name);
        let mut lacking = Vec::new();
        let given = deployment.template.environment(name);
        for key in given.keys() {
            let mut environment: BTreeMap<String, String> = function.environment.clone();
            environment.remove(key);
            let log = deployment.scratch().join(format!("{name}-without-{key}.log"));
            let (program, memory, time) = (function.program.clone(), function.memory, function.time);
            let without = Function::new(name, program, environment, memory, time, log);
            let mut sandbox = without.start().await;
            if sandbox.ready(Duration::from_secs(60)).await.is_err() {
                assert!(!sandbox.ended(Duration::from_secs(10)).await.success(), "{name} without {key}");
                let said = without.log();
                assert!(said.contains(key.as_str()), "{name} without {key} says only: {said}");
                lacking.push(key.as_str());
            }
        }
        let must = if name == WORKER {
            ["QUEUE_URL", "CONTROL_URL", "FLEET_KEY", "MODELS_DIR"]
        } else {
            ["TABLE_JOBS", "TABLE_LIMITS", "BUCKET", "JOBS_QUEUE_URL"]
        };
        assert!(must.iter().all(|key| lacking.contains(key)), "{name} starts without one of {must:?}: {lacking:?}");
    }
}

/// What API Gateway makes of repeated headers and parameters reaches the routes as one list.
#[test]
fn headers_of_one_name_are_one_header_of_the_event() {
    let mut headers = HeaderMap::new();
    for value in ["text/html", "application/json"] {
        headers.append("accept", value.parse().unwrap());
    }
    headers.append("cookie", "a=b; c=d".parse().unwrap());
    let function = Function::new("ApiFunction", "none".into(), BTreeMap::new(), 1, Duration::ZERO, "none".into());
    let route = super::template::Route { function: "ApiFunction".to_owned(), key: None };
    let gateway = super::gateway::Gateway { routes: vec![(route, function.into())] };
    let asked = super::gateway::Asked { method: "GET", target: "/a%20b?x=1&x=%2F&y", headers: &headers, body: b"" };
    let (event, _) = gateway.event(&asked);
    assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&json!("/a b"), &json!("x=1&x=%2F&y")));
    assert_eq!(event["queryStringParameters"], json!({"x": "1,/", "y": ""}));
    assert_eq!(
        (&event["headers"]["accept"], &event["cookies"]),
        (&json!("text/html,application/json"), &json!(["a=b", "c=d"]))
    );
    assert_eq!((&event["headers"]["cookie"], &event["isBase64Encoded"]), (&Value::Null, &json!(false)));
}
