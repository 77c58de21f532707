//! What clients of a deployment see is what clients of `rotoless up` see.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::deployment::Deployment;
use crate::world::client::{Client, send};
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

/// Headers whose values are the same everywhere. Of others that must be there, the name alone.
const SAME: [&str; 12] = [
    "content-type",
    "cache-control",
    "retry-after",
    "idempotency-replayed",
    "allow",
    "vary",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
    "x-ratelimit-limit",
];
const THERE: [&str; 3] = ["x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// An answer as it is compared.
#[derive(Debug, PartialEq)]
struct Seen {
    what: String,
    status: u16,
    headers: BTreeMap<&'static str, String>,
    body: Value,
}

struct Story<'a> {
    client: &'a Client,
    seen: Vec<Seen>,
}

impl Story<'_> {
    async fn ask(&mut self, what: &str, request: RequestBuilder) -> Value {
        let reply = send(request).await;
        let there = THERE.iter().filter(|name| reply.headers.contains_key(**name)).map(|name| (*name, "…".to_owned()));
        let same = SAME.iter().filter(|name| reply.headers.contains_key(**name));
        let headers = same.map(|name| (*name, reply.header(name).to_owned())).chain(there).collect();
        let base = self.client.door.url("");
        let body = masked(&reply.json, &base);
        self.seen.push(Seen { what: what.to_owned(), status: reply.status, headers, body });
        reply.json
    }

    async fn get(&mut self, path: &str) -> Value {
        self.ask(&format!("GET {path}"), self.client.request(Method::GET, path)).await
    }

    async fn post(&mut self, path: &str, body: &Value) -> Value {
        self.ask(
            &masked(&json!(format!("POST {path} {body}")), &self.client.door.url("")).to_string(),
            self.client.request(Method::POST, path).json(body),
        )
        .await
    }
}

/// What differs by chance: ids, times, origins, signatures.
fn masked(value: &Value, base: &str) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), masked(value, base))).collect(),
        Value::Array(array) => array.iter().map(|value| masked(value, base)).collect(),
        Value::String(text) => {
            Value::String(text.split(' ').map(|word| masked_word(word, base)).collect::<Vec<_>>().join(" "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn masked_word(word: &str, base: &str) -> String {
    if word.contains("X-Amz-Signature") {
        return "a presigned link".to_owned();
    }
    // A deployment that was given no name of its own goes by that of its gateway, which speaks https.
    let word = word.replace(base, "BASE").replace(&base.replacen("http", "https", 1), "BASE");
    let is_time = word.len() >= 20 && word.ends_with('Z') && word.as_bytes()[4] == b'-' && word.as_bytes()[10] == b'T';
    if is_time {
        return "a time".to_owned();
    }
    let mut parts = word.split('/').map(|part| {
        let random = part
            .trim_end_matches(['"', '}', '\\'])
            .split_once('_')
            .filter(|(kind, rest)| matches!(*kind, "job" | "req" | "evt" | "vid" | "upl") && rest.len() >= 16);
        random.map_or_else(|| part.to_owned(), |(kind, _)| format!("{kind}_…"))
    });
    let first = parts.next().unwrap_or_default();
    parts.fold(first, |all, part| format!("{all}/{part}"))
}

/// Requests of every kind; the answers in their order.
async fn story(client: &Client, clip: &std::path::Path) -> Vec<Seen> {
    let mut story = Story { client, seen: Vec::new() };
    let url = client.upload(clip).await;
    let form = client.send_form(clip).await;
    assert_eq!(form.status, 200, "{:#}", form.json);
    let order = json!({"video_url": url, "model": "light", "output_format": "webm"});
    story.post("/v1/estimate", &order).await;
    let with_key =
        |body: &Value| client.request(Method::POST, "/v1/jobs").header("Idempotency-Key", "a-key").json(body);
    let job = story.ask("POST /v1/jobs", with_key(&order)).await;
    story.ask("POST /v1/jobs again", with_key(&order)).await;
    let mut other = order.clone();
    other["output_format"] = json!("mov");
    story.ask("POST /v1/jobs, another", with_key(&other)).await;
    let id = job["id"].as_str().unwrap_or_else(|| panic!("{job:#}")).to_owned();
    jobs(&mut story, &id).await;
    refusals(&mut story, &order).await;
    strange(&mut story, &id).await;
    story.seen
}

async fn jobs(story: &mut Story<'_>, id: &str) {
    let job = format!("/v1/jobs/{id}");
    for path in [
        job.as_str(),
        &format!("{job}/events"),
        &format!("{job}/deliveries"),
        &format!("{job}/download"),
        "/v1/jobs?limit=1",
        "/v1/jobs?limit=1&status=pending",
        "/v1/credits",
        "/v1/usage/summary",
        "/openapi.json",
    ] {
        let shown = path.replace(id, "ID");
        let request = story.client.request(Method::GET, path);
        story.ask(&format!("GET {shown}"), request).await;
    }
    for (method, path) in
        [(Method::POST, format!("{job}/start")), (Method::POST, format!("{job}/cancel")), (Method::DELETE, job)]
    {
        let shown = path.replace(id, "ID");
        let request = story.client.request(method.clone(), &path);
        story.ask(&format!("{method} {shown}"), request).await;
    }
}

async fn refusals(story: &mut Story<'_>, order: &Value) {
    let client = story.client;
    let http = client.door.http();
    story.ask("no key", http.get(client.door.url("/v1/jobs"))).await;
    story.ask("a wrong key", http.get(client.door.url("/v1/jobs")).header("X-Api-Key", "wrong")).await;
    story
        .ask("no JSON", client.request(Method::POST, "/v1/jobs").header("content-type", "application/json").body("{"))
        .await;
    story.ask("no content type", client.request(Method::POST, "/v1/jobs").body(order.to_string())).await;
    story
        .ask(
            "bytes",
            client.request(Method::POST, "/v1/jobs").header("content-type", "application/json").body(vec![0xff; 40]),
        )
        .await;
    let large = json!({"video_url": "x".repeat(300_000)});
    story.ask("a large order", client.request(Method::POST, "/v1/jobs").json(&large)).await;
    story.post("/v1/jobs", &json!({"video_url": "https://127.0.0.1/a.mp4", "model": "light"})).await;
    story.post("/v1/jobs", &json!({"video_url": "nonsense", "model": "best"})).await;
    story
        .ask(
            "no form",
            client.request(Method::POST, "/v1/uploads").header("content-type", "multipart/form-data").body("x"),
        )
        .await;
    for (method, path) in [(Method::PUT, "/v1/jobs"), (Method::DELETE, "/v1/credits"), (Method::PATCH, "/")] {
        story.ask(&format!("{method} {path}"), client.request(method.clone(), path)).await;
    }
}

/// What API Gateway takes apart and puts together: paths, queries, headers, methods without a body.
async fn strange(story: &mut Story<'_>, id: &str) {
    let client = story.client;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1//jobs",
        "/nowhere?a=b&a=c",
        "/v1/jobs?limit=%31&limit=2",
        "/v1/jobs?limit=",
        "/v1/jobs?status=p%65nding&cursor=%2F%3D%26",
        "/v1/jobs/job_%C3%A9%20",
        "/v1/jobs/%6aob_none",
    ] {
        story.get(path).await;
    }
    let path = format!("/v1/jobs/{id}");
    story.ask("HEAD", client.request(Method::HEAD, "/v1/credits")).await;
    let preflight = client.door.http().request(Method::OPTIONS, client.door.url("/v1/jobs"));
    let preflight = preflight.header("Origin", "https://page.example").header("Access-Control-Request-Method", "POST");
    story.ask("a preflight", preflight.header("Access-Control-Request-Headers", "x-api-key,content-type")).await;
    story.ask("OPTIONS without a question", client.request(Method::OPTIONS, "/v1/jobs")).await;
    story.ask("a deleted job", client.request(Method::GET, &path)).await;
    let cookies = client.request(Method::GET, "/v1/credits").header("Cookie", "a=b; c=d").header("Accept", "text/html");
    story.ask("cookies, and an accept twice", cookies.header("Accept", "application/json")).await;
    story.ask("a worker's call", client.request(Method::POST, "/internal/v1/jobs/none/claim").json(&json!({}))).await;
    story.ask("another call", client.request(Method::POST, "/internal/v1/none").json(&json!({}))).await;
}

/// G-42: the same requests, the same answers, though API Gateway and the Runtime API lie between and the process is
/// stopped after each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_answers_as_one_machine_does() {
    let options = Options { no_worker: true, messages_left: true, ..Options::default() };
    in_a_world(options, async |world| {
        let clip = Clip::SMALL.make(world.scratch());
        let client = world.client("acme", 10.0).await;
        let here = story(&client, &clip).await;
        let deployment = Deployment::start().await;
        let client = deployment.client("acme", 10.0).await;
        let there = story(&client, &clip).await;
        let differ: Vec<_> = here.iter().zip(&there).filter(|(here, there)| here != there).collect();
        assert!(differ.is_empty(), "{differ:#?}");
        assert!(here.len() == there.len() && here.len() > 40, "{} and {} answers", here.len(), there.len());
        assert_eq!(deployment.function("ApiFunction").started(), 1, "the process went on throughout");
    })
    .await;
}
