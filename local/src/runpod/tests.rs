//! `apply` and `status` against a stand-in of RunPod's two APIs that keeps what it is given, as RunPod does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use clap::Parser;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::arguments::RunPodCommand;

const KEY: &str = "rpa_OPERATORS_KEY";
const IMAGE: &str = "ghcr.io/somebody/rotoless-worker:0.1.0";
const WORKER_ENV: &str = "QUEUE_URL=https://sqs.example/1/q\nCONTROL_URL=https://api.example\n\
    FLEET_KEY={{ RUNPOD_SECRET_fleet }}\nAWS_REGION=eu-west-1\nAWS_ACCESS_KEY_ID=AKIAEXAMPLE\n\
    AWS_SECRET_ACCESS_KEY=the-secret-of-a-user\n";

/// What RunPod keeps, and the writes it was asked for.
#[derive(Default)]
struct Kept {
    templates: Vec<Map<String, Value>>,
    endpoints: Vec<Map<String, Value>>,
    health: Value,
    writes: Vec<(String, Value)>,
    /// Fields that a `PATCH` of them does not change.
    deaf_to: Vec<&'static str>,
    refuses: bool,
}

type Shared = Arc<Mutex<Kept>>;

struct RunPod {
    url: String,
    kept: Shared,
    directory: tempfile::TempDir,
}

impl RunPod {
    async fn start() -> Self {
        let health = json!({ "jobs": { "inQueue": 2 }, "workers": { "running": 2, "idle": 1, "throttled": 1 } });
        let kept: Shared = Arc::new(Mutex::new(Kept { health, ..Kept::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&kept));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("worker.env"), WORKER_ENV).unwrap();
        Self { url, kept, directory }
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap())
    }

    fn writes(&self) -> Vec<(String, Value)> {
        self.kept(|kept| std::mem::take(&mut kept.writes))
    }

    fn worker_env(&self) -> PathBuf {
        self.directory.path().join("worker.env")
    }

    /// A command as it is typed; what it said, and how it ended.
    async fn run(&self, line: &[&str]) -> (String, Result<(), String>) {
        #[derive(Parser)]
        struct Line {
            #[command(subcommand)]
            command: RunPodCommand,
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/runpod-endpoint.json");
        let fixed =
            ["--file", file.to_str().unwrap(), "--api-key", KEY, "--api-url", &self.url, "--rest-url", &self.url];
        let line = Line::parse_from(["runpod"].iter().chain(line).chain(&fixed));
        let mut out = Vec::new();
        let done = match line.command {
            RunPodCommand::Apply(args) => super::apply::run(&args, &mut out).await,
            RunPodCommand::Status(args) => super::status::run(&args, &mut out).await,
        };
        let said = String::from_utf8(out).unwrap();
        for secret in [KEY, "the-secret-of-a-user", "AKIAEXAMPLE", "RUNPOD_SECRET_fleet"] {
            assert!(!said.contains(secret) && !format!("{done:?}").contains(secret), "{secret}: {said} {done:?}");
        }
        (said, done.map_err(|error| format!("{error:#}")))
    }

    /// The endpoint, made.
    async fn made() -> Self {
        let runpod = Self::start().await;
        let env = runpod.worker_env();
        let (said, done) = runpod.run(&["apply", "--image", IMAGE, "--worker-env", env.to_str().unwrap()]).await;
        assert_eq!(done, Ok(()), "{said}");
        runpod
    }
}

async fn answer(State(kept): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Value = serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap_or_default();
    let kept = &mut *kept.lock().unwrap();
    if !is_ours(&parts.headers) || kept.refuses {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "message": "unauthorized" }))).into_response();
    }
    let path = parts.uri.path().to_owned();
    if parts.method != "GET" {
        kept.writes.push((format!("{} {path}", parts.method), body.clone()));
    }
    let is_told = parts.uri.query() == Some("includeEndpointBoundTemplates=true");
    match (parts.method.as_str(), &path.split('/').skip(1).collect::<Vec<_>>()[..]) {
        ("GET", ["v2", id, "health"]) if kept.endpoints.iter().any(|e| e["id"] == *id) => {
            Json(&kept.health).into_response()
        }
        ("GET", ["v1", "templates"]) => {
            let is_bound =
                |template: &&Map<String, Value>| kept.endpoints.iter().any(|e| e["templateId"] == template["id"]);
            Json(kept.templates.iter().filter(|t| is_told || !is_bound(t)).collect::<Vec<_>>()).into_response()
        }
        ("GET", ["v1", "endpoints", id]) => match kept.endpoints.iter().find(|endpoint| endpoint["id"] == *id) {
            Some(endpoint) => Json(endpoint).into_response(),
            None => (StatusCode::NOT_FOUND, Body::empty()).into_response(),
        },
        ("GET", ["v1", "endpoints"]) => Json(&kept.endpoints).into_response(),
        ("POST", ["v1", kind]) => {
            let all = if *kind == "templates" { &mut kept.templates } else { &mut kept.endpoints };
            let mut made = body.as_object().unwrap().clone();
            made.insert("id".to_owned(), format!("{}{}", &kind[..2], all.len()).into());
            // Not in what RunPod answers.
            made.remove("flashboot");
            made.insert("userId".to_owned(), "user_1".into());
            all.push(made.clone());
            Json(made).into_response()
        }
        ("PATCH", ["v1", kind, id]) => {
            let all = if *kind == "templates" { &mut kept.templates } else { &mut kept.endpoints };
            let one = all.iter_mut().find(|one| one["id"] == *id).unwrap();
            let change = body.as_object().unwrap().iter();
            let heard = change.filter(|(name, _)| *name != "flashboot" && !kept.deaf_to.contains(&name.as_str()));
            one.extend(heard.map(|(name, value)| (name.clone(), value.clone())));
            Json(one.clone()).into_response()
        }
        _ => (StatusCode::NOT_FOUND, Body::empty()).into_response(),
    }
}

fn is_ours(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == "Bearer rpa_OPERATORS_KEY")
}

#[tokio::test]
async fn a_first_apply_makes_template_and_endpoint_as_the_file_has_them() {
    let runpod = RunPod::start().await;
    let env = runpod.worker_env();
    let (said, done) = runpod.run(&["apply", "--image", IMAGE, "--worker-env", env.to_str().unwrap()]).await;
    assert_eq!(done, Ok(()));
    assert!(said.contains("RunPodEndpoint=en0") && said.contains("AWS_SECRET_ACCESS_KEY"), "{said}");
    let writes = runpod.writes();
    let [(template_route, template), (endpoint_route, endpoint)] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!((template_route.as_str(), endpoint_route.as_str()), ("POST /v1/templates", "POST /v1/endpoints"));
    assert_eq!((&template["imageName"], &template["isServerless"]), (&json!(IMAGE), &json!(true)));
    assert_eq!(template["env"]["FLEET_KEY"], "{{ RUNPOD_SECRET_fleet }}");
    assert_eq!((&template["env"]["SESSIONS"], &template["env"]["DEVICE"]), (&json!("runpod"), &json!("cuda")));
    let expected = json!({
        "name": "rotoless", "templateId": "te0", "flashboot": true, "executionTimeoutMs": 7_280_000,
        "gpuTypeIds": ["NVIDIA RTX A5000", "NVIDIA GeForce RTX 3090", "NVIDIA L4"], "gpuCount": 1,
        "minCudaVersion": "13.0", "workersMin": 0, "workersMax": 3, "idleTimeout": 10,
        "scalerType": "QUEUE_DELAY", "scalerValue": 4,
    });
    assert_eq!(endpoint, &expected);
}

#[tokio::test]
async fn a_second_apply_changes_nothing() {
    let runpod = RunPod::made().await;
    runpod.writes();
    let env = runpod.worker_env();
    for line in [&["apply", "--image", IMAGE, "--worker-env", env.to_str().unwrap()][..], &["apply"]] {
        let (said, done) = runpod.run(line).await;
        assert_eq!((runpod.writes(), done), (vec![], Ok(())), "{said}");
        assert!(said.contains("template: as wanted\nendpoint: as wanted\n"), "{said}");
    }
    let (said, _) = runpod.run(&["apply", "--json"]).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, json!({ "changed": false, "dry_run": false, "differences": [], "endpoint_id": "en0" }));
}

#[tokio::test]
async fn an_apply_repairs_what_drifted_and_sends_nothing_else() {
    let runpod = RunPod::made().await;
    runpod.writes();
    runpod.kept(|kept| {
        // What somebody did in the console, and RunPod after a week without a request.
        kept.endpoints[0].insert("workersMin".to_owned(), 1.into());
        kept.endpoints[0].insert("workersMax".to_owned(), 0.into());
        kept.templates[0]["env"]["FLEET_KEY"] = "old".into();
    });
    let env = runpod.worker_env();
    let (said, done) = runpod.run(&["apply", "--worker-env", env.to_str().unwrap()]).await;
    assert_eq!(done, Ok(()), "{said}");
    assert!(said.contains("workersMax: 0 -> 3") && said.contains("env.FLEET_KEY"), "{said}");
    let writes = runpod.writes();
    let [(template_route, template), (endpoint_route, endpoint)] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(
        (template_route.as_str(), endpoint_route.as_str()),
        ("PATCH /v1/templates/te0", "PATCH /v1/endpoints/en0")
    );
    assert_eq!(template.as_object().unwrap().keys().collect::<Vec<_>>(), ["env"]);
    assert_eq!(template["env"]["FLEET_KEY"], "{{ RUNPOD_SECRET_fleet }}");
    // FlashBoot cannot be seen, so it goes along.
    assert_eq!(endpoint, &json!({ "workersMin": 0, "workersMax": 3, "flashboot": true }));
    assert_eq!(runpod.run(&["status"]).await.1, Ok(()));
}

#[tokio::test]
async fn a_dry_run_shows_everything_and_changes_nothing() {
    let runpod = RunPod::start().await;
    let env = runpod.worker_env();
    let line = ["apply", "--dry-run", "--image", IMAGE, "--worker-env", env.to_str().unwrap()];
    let (said, done) = runpod.run(&line).await;
    assert_eq!((runpod.writes(), done), (vec![], Ok(())));
    assert!(said.contains("endpoint: to be made\n") && said.contains("  workersMax: 3\n"), "{said}");
    assert!(said.ends_with("Nothing was changed.\n"), "{said}");
    assert!(runpod.kept(|kept| kept.templates.is_empty() && kept.endpoints.is_empty()));
}

#[tokio::test]
async fn what_runpod_did_not_take_over_is_an_error() {
    let runpod = RunPod::made().await;
    runpod.kept(|kept| {
        kept.endpoints[0].insert("workersMin".to_owned(), 1.into());
        kept.deaf_to = vec!["workersMin"];
    });
    let error = runpod.run(&["apply"]).await.1.unwrap_err();
    assert!(error.contains("does not say that its workersMin is 0"), "{error}");

    runpod.kept(|kept| {
        kept.endpoints[0].insert("workersMin".to_owned(), 0.into());
        kept.endpoints[0].insert("networkVolumeId".to_owned(), "vol1".into());
        kept.templates[0].insert("isServerless".to_owned(), false.into());
    });
    let error = runpod.run(&["apply"]).await.1.unwrap_err();
    assert!(error.contains("networkVolumeId") && error.contains("isServerless"), "{error}");
}

#[tokio::test]
async fn nothing_is_made_of_half_a_wish() {
    let runpod = RunPod::start().await;
    let env = runpod.worker_env();
    let error = runpod.run(&["apply", "--worker-env", env.to_str().unwrap()]).await.1.unwrap_err();
    assert!(error.contains("--image"), "{error}");
    let error = runpod.run(&["apply", "--image", IMAGE]).await.1.unwrap_err();
    assert!(error.contains("--worker-env") && error.contains("FLEET_KEY"), "{error}");
    runpod.kept(|kept| kept.refuses = true);
    let error = runpod.run(&["apply", "--image", IMAGE, "--worker-env", env.to_str().unwrap()]).await.1.unwrap_err();
    assert!(error.contains("RUNPOD_API_KEY"), "{error}");
    assert_eq!(runpod.writes(), []);
}

#[tokio::test]
async fn of_two_endpoints_with_one_name_none_is_guessed() {
    let runpod = RunPod::made().await;
    runpod.writes();
    runpod.kept(|kept| {
        let mut twin = kept.endpoints[0].clone();
        twin.insert("id".to_owned(), "en1".into());
        twin.insert("name".to_owned(), "rotoless -fb".into());
        kept.endpoints.push(twin);
    });
    let error = runpod.run(&["apply"]).await.1.unwrap_err();
    assert!(error.contains("en0, en1") && error.contains("--endpoint-id"), "{error}");
    assert_eq!(runpod.run(&["apply", "--endpoint-id", "en1"]).await.1, Ok(()));
    let error = runpod.run(&["apply", "--endpoint-id", "en7"]).await.1.unwrap_err();
    assert!(error.contains("no endpoint en7"), "{error}");
    assert_eq!(runpod.writes(), []);
}

#[tokio::test]
async fn a_status_tells_workers_queue_and_price_and_fails_when_something_is_off() {
    let runpod = RunPod::made().await;
    let (said, done) = runpod.run(&["status"]).await;
    assert_eq!(done, Ok(()), "{said}");
    assert!(said.contains("2 running of 3; 1 idle, 0 starting, 1 throttled"), "{said}");
    assert!(said.contains("about 1.37 $ an hour now, 2.05 $ with all workers"), "{said}");

    runpod.kept(|kept| kept.endpoints[0].insert("idleTimeout".to_owned(), 600.into()));
    let (said, done) = runpod.run(&["status"]).await;
    assert!(said.contains("endpoint idleTimeout: 600, wanted 10"), "{said}");
    assert!(done.unwrap_err().contains("1 settings differ"));

    runpod.kept(|kept| kept.endpoints[0].insert("workersMax".to_owned(), 0.into()));
    let (said, done) = runpod.run(&["status", "--json"]).await;
    assert!(done.unwrap_err().contains("no worker is allowed"));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["workers"]["max"], 0);
    assert_eq!(said["differences"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_status_of_nothing_says_what_makes_it() {
    let runpod = RunPod::start().await;
    let error = runpod.run(&["status"]).await.1.unwrap_err();
    assert!(error.contains("rotoless runpod apply"), "{error}");
}
