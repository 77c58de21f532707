//! A stand-in of ECS: the four calls of its JSON API that the waker makes, its agent's protection endpoint, and tasks that
//! are processes of the worker.
//!
//! Owns: tasks from their start to their end; refusals and losses. Does not own: machines, which are always there.
//! Invariant: no task outlives the cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::{post, put};
use axum::{Json, Router};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::world::proxy::{Port, Proxy, Upstream};
use crate::world::{World, fleet, processes, program};

const TARGET: &str = "AmazonEC2ContainerServiceV20141113.";
const CLUSTER: &str = "a-cluster";
const DEFINITION: &str = "arn:aws:ecs:us-east-1:1:task-definition/worker:1";
/// Between the start of a task and that of its process.
const PROVISIONING: Duration = Duration::from_millis(500);
/// Tasks that a test may start.
const MOST_TASKS: usize = 12;

/// What became of a task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    started_by: String,
    created: f64,
    status: &'static str,
    process: Option<u32>,
    /// Of the process, once it ended.
    pub(crate) exit: Option<i32>,
    /// What was asked of the agent, in order.
    pub(crate) protected: Vec<bool>,
}

/// What is needed to start a worker.
struct Place {
    environment: BTreeMap<String, String>,
    address: String,
    scratch: PathBuf,
    log_level: &'static str,
}

#[derive(Default)]
struct Shared {
    tasks: Mutex<Vec<Task>>,
    calls: Mutex<Vec<String>>,
    refuse: AtomicUsize,
    lose: AtomicUsize,
    place: Mutex<Option<Arc<Place>>>,
    url: Mutex<String>,
}

/// The cluster.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

/// A world's workers' way to it.
pub(crate) struct Home {
    pub(crate) proxy: Proxy,
    _port: Port,
    cluster: Cluster,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let cluster = Self(Arc::default());
        let router = Router::new()
            .route("/", post(api))
            .route("/agent/{task}/task-protection/v1/state", put(protect))
            .with_state(cluster.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        *cluster.0.url.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        // It ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        cluster
    }

    /// How a service reaches it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let url = self.0.url.lock().unwrap().clone();
        let pairs = [
            ("ECS_CLUSTER", CLUSTER),
            ("ECS_TASK_DEFINITION", DEFINITION),
            ("ECS_CAPACITY_PROVIDER", "gpus"),
            ("ECS_ENDPOINT", &url),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// No machine has room for so many starts.
    pub(crate) fn refuse(&self, starts: usize) {
        self.0.refuse.store(starts, Ordering::SeqCst);
    }

    /// So many tasks vanish before they come to life.
    pub(crate) fn lose(&self, tasks: usize) {
        self.0.lose.store(tasks, Ordering::SeqCst);
    }

    pub(crate) fn tasks(&self) -> Vec<Task> {
        self.0.tasks.lock().unwrap().clone()
    }

    pub(crate) fn alive(&self) -> usize {
        self.tasks().iter().filter(|task| task.status != "STOPPED").count()
    }

    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.0.calls.lock().unwrap().iter().filter(|call| *call == operation).count()
    }

    fn change(&self, task: usize, change: impl FnOnce(&mut Task)) {
        change(&mut self.0.tasks.lock().unwrap()[task]);
    }

    fn run(&self, body: &Value) -> Value {
        assert_eq!((body["cluster"].as_str(), body["taskDefinition"].as_str()), (Some(CLUSTER), Some(DEFINITION)));
        assert_eq!(body["capacityProviderStrategy"][0]["capacityProvider"], "gpus");
        assert!(body["launchType"].is_null(), "ECS takes a strategy or a launch type");
        assert!(body["clientToken"].as_str().is_some_and(|token| !token.is_empty()));
        if take_one(&self.0.refuse) {
            return json!({ "tasks": [], "failures": [{ "arn": "arn:machine", "reason": "RESOURCE:GPU" }] });
        }
        let mut started = Vec::new();
        for _ in 0..body["count"].as_u64().unwrap() {
            let mut tasks = self.0.tasks.lock().unwrap();
            assert!(tasks.len() < MOST_TASKS, "starts without end: {tasks:?}");
            let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            let started_by = body["startedBy"].as_str().unwrap().to_owned();
            tasks.push(Task { started_by, created, status: "PROVISIONING", ..Task::default() });
            started.push(shown(tasks.len() - 1, tasks.last().unwrap()));
            tokio::spawn(self.clone().live(tasks.len() - 1));
        }
        json!({ "tasks": started, "failures": [] })
    }

    async fn live(self, task: usize) {
        tokio::time::sleep(PROVISIONING).await;
        let place = self.0.place.lock().unwrap().clone();
        let (false, Some(place)) = (take_one(&self.0.lose), place) else {
            self.change(task, |task| task.status = "STOPPED");
            return;
        };
        let agent = format!("{}/agent/{task}", self.0.url.lock().unwrap());
        let mut process = place.worker(task, &agent).spawn().unwrap();
        self.change(task, |task| (task.status, task.process) = ("RUNNING", Some(process.id())));
        let code = loop {
            match process.try_wait().unwrap() {
                Some(status) => break status.code(),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        assert_nothing_left(&process);
        self.change(task, |task| (task.status, task.exit, task.process) = ("STOPPED", code, None));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for process in self.cluster.tasks().iter().filter_map(|task| task.process) {
            let session = i32::try_from(process).unwrap_or(0);
            for process in processes::of_session(session) {
                let _ = kill(Pid::from_raw(process.id), Signal::SIGKILL);
            }
        }
    }
}

impl Home {
    /// Tasks of the cluster work for this world, behind one port of a proxy.
    pub(crate) async fn of(world: &World, cluster: &Cluster) -> Self {
        let environment = world.worker_environment();
        let host = |name: &str| environment[name].trim_start_matches("http://").trim_end_matches('/').to_owned();
        let proxy = Proxy::new();
        let secret = environment["AWS_SECRET_ACCESS_KEY"].clone();
        proxy.lead_to(Upstream { service: host("CONTROL_URL"), queue: host("AWS_ENDPOINT_URL_SQS"), secret });
        let port = proxy.port(0).await;
        let mut environment = environment.clone();
        let queue = environment["QUEUE_URL"].replace(&host("AWS_ENDPOINT_URL_SQS"), &port.address);
        environment.insert("QUEUE_URL".to_owned(), queue);
        for name in ["CONTROL_URL", "AWS_ENDPOINT_URL_SQS"] {
            environment.insert(name.to_owned(), format!("http://{}", port.address));
        }
        let scratch = world.scratch().to_owned();
        (0..MOST_TASKS).for_each(|task| world.keep_log(log(&scratch, task)));
        let place = Place { environment, address: port.address.clone(), scratch, log_level: world.log_level() };
        *cluster.0.place.lock().unwrap() = Some(Arc::new(place));
        Self { proxy, _port: port, cluster: cluster.clone() }
    }

    /// Nobody works any more, and nothing is left to do.
    pub(crate) async fn end(self, world: &World) {
        world.queue_empties().await;
        assert_eq!(self.cluster.alive(), 0, "{:?}", self.cluster.tasks());
        assert!(self.cluster.tasks().iter().all(|task| task.started_by == "rotoless"), "{:?}", self.cluster.tasks());
    }
}

fn log(scratch: &std::path::Path, task: usize) -> PathBuf {
    scratch.join(format!("task.{task}.log"))
}

impl Place {
    fn worker(&self, task: usize, agent: &str) -> Command {
        let work_dir = self.scratch.join(format!("work.{task}"));
        let mut command = Command::new("setsid");
        command.args(["setpriv", "--pdeathsig", "KILL"]).arg(program()).arg("gpu-handler");
        command.env_clear().envs(&self.environment).env("PATH", fleet::path()).env("RUST_LOG", self.log_level);
        command.env("WORK_DIR", work_dir).env("WORKER_ID", format!("task-{task}-of-{}", self.address));
        command.env("SESSIONS", "drain").env("DRAIN_IDLE_SECONDS", "2").env("ECS_AGENT_URI", agent);
        let log = File::options().create(true).append(true).open(log(&self.scratch, task)).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }
}

fn assert_nothing_left(process: &Child) {
    let left = processes::of_session(i32::try_from(process.id()).unwrap());
    assert!(left.is_empty(), "I-9: a task left processes: {left:?}");
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn arn(task: usize) -> String {
    format!("arn:aws:ecs:us-east-1:1:task/{CLUSTER}/{task}")
}

fn number(arn: &Value) -> usize {
    arn.as_str().unwrap().rsplit_once('/').unwrap().1.parse().unwrap()
}

fn shown(number: usize, task: &Task) -> Value {
    let desired = if task.status == "STOPPED" { "STOPPED" } else { "RUNNING" };
    json!({ "taskArn": arn(number), "lastStatus": task.status, "desiredStatus": desired, "createdAt": task.created })
}

async fn api(State(cluster): State<Cluster>, headers: HeaderMap, body: String) -> Json<Value> {
    let operation = headers["x-amz-target"].to_str().unwrap().strip_prefix(TARGET).unwrap().to_owned();
    assert!(headers["authorization"].to_str().unwrap().contains("/ecs/aws4_request"), "it is signed");
    cluster.0.calls.lock().unwrap().push(operation.clone());
    let body: Value = serde_json::from_str(&body).unwrap();
    Json(match operation.as_str() {
        "RunTask" => cluster.run(&body),
        "ListTasks" => {
            let is_listed = |task: &Task| task.status != "STOPPED" && body["startedBy"] == task.started_by.as_str();
            let tasks = cluster.tasks();
            let listed = tasks.iter().enumerate().filter(|(_, task)| is_listed(task)).map(|(number, _)| arn(number));
            json!({ "taskArns": listed.collect::<Vec<_>>() })
        }
        "DescribeTasks" => {
            let tasks = cluster.tasks();
            let numbers = body["tasks"].as_array().unwrap().iter().map(number);
            json!({ "tasks": numbers.map(|number| shown(number, &tasks[number])).collect::<Vec<_>>(), "failures": [] })
        }
        "StopTask" => {
            let number = number(&body["task"]);
            let task = cluster.tasks()[number].clone();
            match task.process {
                Some(process) => kill(Pid::from_raw(i32::try_from(process).unwrap()), Signal::SIGTERM).unwrap(),
                None => cluster.change(number, |task| task.status = "STOPPED"),
            }
            json!({ "task": shown(number, &task) })
        }
        other => panic!("the waker does not call {other}"),
    })
}

async fn protect(State(cluster): State<Cluster>, Path(task): Path<usize>, Json(body): Json<Value>) -> Json<Value> {
    let on = body["ProtectionEnabled"].as_bool().unwrap();
    assert!(!on || body["ExpiresInMinutes"].as_u64().is_some_and(|minutes| (1..=2880).contains(&minutes)), "{body}");
    cluster.change(task, |task| task.protected.push(on));
    Json(json!({ "protection": { "ProtectionEnabled": on, "TaskArn": arn(task) } }))
}
