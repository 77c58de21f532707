//! A whole deployment: embedded AWS, HTTP API, functions. Invariant: no function asks for more than its role allows; a
//! deployment that saw one do so fails its test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rotoless_embedded::{Embedded, STACK};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::gateway::Gateway;
use super::sandbox::{Function, binary};
use super::template::Template;
use crate::aws_conformance::stack::{Clients, SECRET_KEY, clients, config, serve_s3};
use crate::template::guard::Guard;
use crate::world::ADMIN_TOKEN;
use crate::world::client::{Client, Door};
use crate::world::fleet::path;
use crate::world::models;

/// The functions and their programs.
pub(crate) const FUNCTIONS: [(&str, &str); 5] = [
    ("ApiFunction", "rotoless-api"),
    ("CallbackFunction", "rotoless-callback"),
    ("DeliverFunction", "rotoless-deliver"),
    ("SweepFunction", "rotoless-sweep"),
    (WORKER, "rotoless-worker-function"),
];
pub(crate) const WORKER: &str = "WorkerFunction";

/// How a deployment is made.
#[derive(Default)]
pub(crate) struct Options {
    /// The worker's models; without them, the free model in the role `light`.
    pub(crate) models: Option<PathBuf>,
    /// Values of the template's parameters.
    pub(crate) parameters: &'static [(&'static str, &'static str)],
    /// What may be reached although it is not public: a receiver of the test's own.
    pub(crate) allow_egress: Option<String>,
    /// Where the programs are, if not beside this one.
    pub(crate) programs: Option<PathBuf>,
    /// Where programs of another version are: they serve every other invocation.
    pub(crate) other_programs: Option<PathBuf>,
    /// No process is stopped between two invocations.
    pub(crate) is_awake: bool,
    /// The worker's package, to be run from there with all that it needs; without one, it takes what the tests take.
    pub(crate) package: Option<PathBuf>,
}

pub(crate) struct Deployment {
    pub(crate) clients: Clients,
    pub(crate) embedded: Embedded,
    pub(crate) template: Template,
    functions: BTreeMap<&'static str, Arc<Function>>,
    door: Door,
    server: JoinHandle<()>,
    /// Before each service that a function calls.
    guards: Vec<Guard>,
    dir: TempDir,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::start(config(&dir.path().join("data"))).await.unwrap();
        let s3_url = serve_s3(&embedded).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let template = Template::new(&embedded.sqs_url, parameters(&url, options.parameters));
        let (mut functions, mut guards) = (BTreeMap::new(), Vec::new());
        for (name, program) in FUNCTIONS {
            let mut environment = template.environment(name);
            // A deployment's clients come by its own name, ours by this port.
            environment.values_mut().for_each(|value| *value = value.replace(&template.origin(), &url));
            let other = options.other_programs.as_ref().map(|programs| programs.join(program));
            let mut program =
                options.programs.as_ref().map_or_else(|| binary(program), |programs| programs.join(program));
            if name == WORKER {
                program = place_worker(&options, program, dir.path(), &mut environment);
                environment.insert("ALLOW_HTTP_LOOPBACK".to_owned(), "true".to_owned());
                environment.insert("AWS_ENDPOINT_URL_SQS".to_owned(), embedded.sqs_url.clone());
            } else {
                environment.extend(elsewhere(&embedded, &s3_url));
            }
            for (_, endpoint) in environment.iter_mut().filter(|(name, _)| name.contains("ENDPOINT")) {
                let guard = Guard::before(endpoint, name, (STACK, SECRET_KEY)).await;
                endpoint.clone_from(&guard.url);
                guards.push(guard);
            }
            if let Some(address) = &options.allow_egress {
                environment.insert("ALLOW_EGRESS_DANGEROUS".to_owned(), address.clone());
            }
            if name == "ApiFunction" {
                replace(&mut environment, "ADMIN_TOKEN", ADMIN_TOKEN);
            }
            let (memory, time) = (template.memory(name), template.time(name));
            let log = dir.path().join(format!("{name}.log"));
            let mut function = Function::new(name, program, environment, memory, time, log);
            function.freezes = !options.is_awake;
            // The other version may not have had it yet.
            function.other = other.filter(|other| other.is_file());
            functions.insert(name, Arc::new(function));
        }
        let routes = template.routes();
        let routes = routes.into_iter().map(|route| (route.clone(), Arc::clone(&functions[route.function.as_str()])));
        let server = Gateway { routes: routes.collect() }.serve(listener);
        let door = Door::to(&url);
        let clients = clients(&embedded, &s3_url);
        Self { clients, embedded, template, functions, door, server, guards, dir }
    }

    pub(crate) fn function(&self, name: &str) -> &Arc<Function> {
        &self.functions[name]
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// A place for the test's own files.
    pub(crate) fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// A new client with so many credits, made by the operator.
    pub(crate) async fn client(&self, name: &str, credits: f64) -> Client {
        self.client_with_secret(name, credits).await.0
    }

    /// The same, with the secret that signs the client's webhooks.
    pub(crate) async fn client_with_secret(&self, name: &str, credits: f64) -> (Client, String) {
        let made = self.door.admin("/v1/admin/keys", &json!({"client_id": name, "credits": credits})).await.ok();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        (Client { door: self.door.clone(), key: text("api_key") }, text("webhook_secret"))
    }

    /// One tick of the sweep.
    pub(crate) async fn sweep(&self) -> Value {
        self.function("SweepFunction").invoke(&schedule()).await.answer()
    }

    pub(crate) async fn queue_is_empty(&self) -> bool {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let ask = self.clients.sqs.get_queue_attributes().queue_url(self.queue()).attribute_names(Name::All);
        let counted = ask.send().await.unwrap().attributes.unwrap();
        let none = |name: Name| counted[&name] == "0";
        none(Name::ApproximateNumberOfMessages) && none(Name::ApproximateNumberOfMessagesNotVisible)
    }

    /// What all functions logged.
    pub(crate) fn logs(&self) -> String {
        self.functions.values().map(|function| function.log()).collect()
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.server.abort();
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
            return;
        }
        let refused: Vec<_> = self.guards.iter().flat_map(|guard| guard.seen().refused).collect();
        assert!(refused.is_empty(), "not allowed by the template: {refused:?}");
    }
}

/// A tick of EventBridge's.
pub(crate) fn schedule() -> Value {
    serde_json::from_str(include_str!("../../../events/schedule.json")).unwrap()
}

/// Puts another value in the place of the one that the template gives.
fn replace(environment: &mut BTreeMap<String, String>, name: &str, value: &str) {
    let given = environment.get_mut(name).unwrap_or_else(|| panic!("the template does not give {name}"));
    value.clone_into(given);
}

/// Where the worker's program, tools and models are: in its package, as the template says, or in the tests' places.
fn place_worker(
    options: &Options,
    program: PathBuf,
    dir: &Path,
    environment: &mut BTreeMap<String, String>,
) -> PathBuf {
    // Several deployments share this machine's /tmp.
    replace(environment, "WORK_DIR", dir.join("worker").to_str().unwrap());
    if let Some(package) = &options.package {
        let root = package.to_str().unwrap();
        environment.values_mut().for_each(|value| *value = value.replace("/var/task", root));
        return package.join("bootstrap");
    }
    let models = options.models.clone().unwrap_or_else(|| {
        let models = dir.join("models");
        models::install_free_model(&models);
        models
    });
    replace(environment, "MODELS_DIR", models.to_str().unwrap());
    replace(environment, "FFMPEG_PATH", &path());
    program
}

fn parameters(url: &str, others: &[(&str, &str)]) -> BTreeMap<String, String> {
    let secret = |what: &str| format!("{what}-of-the-tests-which-is-long-enough");
    let others = others.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut all = BTreeMap::from([
        ("PublicBaseUrl".to_owned(), url.to_owned()),
        ("AdminToken".to_owned(), ADMIN_TOKEN.to_owned()),
        ("FleetKeys".to_owned(), secret("fleet-key")),
        ("ReportMasters".to_owned(), secret("report-master")),
        ("WebhookMaster".to_owned(), secret("webhook-master")),
    ]);
    all.extend(others);
    all
}

/// The embedded AWS in AWS's place.
fn elsewhere(embedded: &Embedded, s3_url: &str) -> [(String, String); 4] {
    [
        ("DYNAMODB_ENDPOINT", embedded.dynamodb_url.as_str()),
        ("SQS_ENDPOINT", embedded.sqs_url.as_str()),
        ("S3_ENDPOINT", s3_url),
        ("S3_PUBLIC_ENDPOINT", s3_url),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}
