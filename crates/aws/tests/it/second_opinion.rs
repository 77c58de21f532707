//! Amazon's own DynamoDB Local, independent of the embedded one: it knows the reserved words, the order of
//! cancellation reasons and the tokens at first hand.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rotoless_core::ports::Jobs;

use crate::records::{client, job, whole};
use crate::world::World;
use crate::{eventcount, faults, jobs, limits, money};

/// The Java process; killed when dropped, by a panic too.
struct DynamoDbLocal {
    process: Child,
    port: u16,
}

impl DynamoDbLocal {
    async fn start() -> Self {
        let directory = std::env::var_os("ROTOLESS_DYNAMODB_LOCAL").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.cache/dynamodb-local"),
            PathBuf::from,
        );
        assert!(
            directory.join("DynamoDBLocal.jar").is_file(),
            "DynamoDB Local is not in {}: run scripts/fetch-dynamodb-local",
            directory.display()
        );
        // It cannot choose a port itself. If another process takes this one first, it ends at once.
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
        let mut local = Self { process, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(local.process.try_wait().unwrap().is_none(), "DynamoDB Local ended");
            assert!(Instant::now() < deadline, "DynamoDB Local does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        local
    }
}

impl Drop for DynamoDbLocal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_over_dynamodb_holds_on_amazons_dynamodb_local() {
    let local = DynamoDbLocal::start().await;
    let url = format!("http://127.0.0.1:{}", local.port);
    // A Java machine answers slowly until it has seen everything once.
    let cold = World::start_with_dynamodb(&url, "warm-up").await;
    for n in 0..20 {
        let _ = cold.store.commit(whole(job(n, &client("acme")))).await;
    }
    for (n, (name, scenario)) in
        [money::ALL, jobs::ALL, faults::ALL, limits::ALL, eventcount::ALL].concat().into_iter().enumerate()
    {
        println!("{name}");
        scenario(World::start_with_dynamodb(&url, &format!("opinion{n}")).await).await;
    }
}
