//! Amazon's own DynamoDB Local, as the second opinion on the checks themselves.

use super::dynamodb::{Target, run_all};
use super::stack::{Clients, Endpoints, credentials, eventually};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The Java process; killed when dropped, by a panic too.
struct DynamoDbLocal {
    process: Child,
    url: String,
}

impl DynamoDbLocal {
    fn start() -> Self {
        let directory = std::env::var_os("ROTOLESS_DYNAMODB_LOCAL")
            .map(PathBuf::from)
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cache/dynamodb-local"));
        assert!(
            directory.join("DynamoDBLocal.jar").is_file(),
            "DynamoDB Local is not in {}: run scripts/fetch-dynamodb-local",
            directory.display()
        );
        // It cannot choose a port itself. Another process may take this one first; then the start below fails.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("java")
            .args(["-Xmx512m", "-Djava.library.path=./DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar"])
            .args(["-inMemory", "-sharedDb", "-disableTelemetry", "-port", &port.to_string()])
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("java (17 or later) runs DynamoDB Local");
        Self { process, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for DynamoDbLocal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checks_of_dynamodb_hold_on_amazons_dynamodb_local() {
    let local = DynamoDbLocal::start();
    let endpoints = Endpoints { dynamodb: Some(local.url.clone()), ..Endpoints::default() };
    let client = Clients::new(endpoints, "us-east-1", credentials()).dynamodb;
    eventually(Duration::from_secs(60), async || client.list_tables().send().await.ok()).await;
    run_all(Arc::new(Target::create(client, None).await)).await;
}
