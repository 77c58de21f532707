//! A whole deployment: embedded AWS, HTTP API, functions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rotoless_embedded::Embedded;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::gateway::Gateway;
use super::sandbox::{Function, binary};
use super::template::Template;
use crate::aws_conformance::stack::{Clients, clients, config, serve_s3};
use crate::world::ADMIN_TOKEN;
use crate::world::client::{Client, Door};

/// The functions and their programs.
const FUNCTIONS: [(&str, &str); 4] = [
    ("ApiFunction", "rotoless-api"),
    ("CallbackFunction", "rotoless-callback"),
    ("DeliverFunction", "rotoless-deliver"),
    ("SweepFunction", "rotoless-sweep"),
];

pub(crate) struct Deployment {
    pub(crate) url: String,
    pub(crate) clients: Clients,
    pub(crate) embedded: Embedded,
    pub(crate) template: Template,
    functions: BTreeMap<&'static str, Arc<Function>>,
    door: Door,
    server: JoinHandle<()>,
    dir: TempDir,
}

impl Deployment {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    /// The same, with changes to functions before they are used.
    pub(crate) async fn start_with(change: impl Fn(&mut Function, &Path)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::start(config(&dir.path().join("data"))).await.unwrap();
        let s3_url = serve_s3(&embedded).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let template = Template::new(&embedded.sqs_url, parameters(&url));
        let mut functions = BTreeMap::new();
        for (name, program) in FUNCTIONS {
            let mut environment = template.environment(name);
            // A deployment's clients come by its own name, ours by this port.
            environment.values_mut().for_each(|value| *value = value.replace(&template.origin(), &url));
            environment.extend(elsewhere(&embedded, &s3_url));
            let (memory, time) = (template.memory(name), template.time(name));
            let log = dir.path().join(format!("{name}.log"));
            let mut function = Function::new(name, binary(program), environment, memory, time, log);
            change(&mut function, dir.path());
            functions.insert(name, Arc::new(function));
        }
        let routes = template.routes();
        let routes = routes.into_iter().map(|route| (route.clone(), Arc::clone(&functions[route.function.as_str()])));
        let server = Gateway { routes: routes.collect() }.serve(listener);
        let door = Door::to(&url);
        let clients = clients(&embedded, &s3_url);
        Self { url, clients, embedded, template, functions, door, server, dir }
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
        }
    }
}

fn parameters(url: &str) -> BTreeMap<String, String> {
    let secret = |what: &str| format!("{what}-of-the-tests-which-is-long-enough");
    BTreeMap::from([
        ("PublicBaseUrl".to_owned(), url.to_owned()),
        ("AdminToken".to_owned(), ADMIN_TOKEN.to_owned()),
        ("FleetKeys".to_owned(), secret("fleet-key")),
        ("ReportMasters".to_owned(), secret("report-master")),
        ("WebhookMaster".to_owned(), secret("webhook-master")),
    ])
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
