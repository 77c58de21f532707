//! An operator's work on the tables themselves: a table comes back from yesterday, a client wants his money, or to be
//! forgotten.

use std::collections::HashMap;
use std::process::{Command, Output};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use rotoless_contract::JobStatus;
use rotoless_embedded::{Embedded, REGION, ResourceNames};
use serde_json::json;

use crate::aws_conformance::stack::{Clients, Endpoints};
use crate::world::client::Client;
use crate::world::fleet::short_leases;
use crate::world::media::Clip;
use crate::world::oracle::embedded_of;
use crate::world::{Options, World, in_a_world, program};

/// Long enough to be interrupted.
const LONG: Clip = Clip { width: 640, height: 360, fps: 25, seconds: 20 };
const JOB: Duration = Duration::from_secs(400);

type Item = HashMap<String, AttributeValue>;

/// The tables of a service that is stopped.
struct Tables {
    embedded: Embedded,
    dynamodb: aws_sdk_dynamodb::Client,
}

impl Tables {
    async fn of(world: &World) -> Self {
        let (embedded, credentials) = embedded_of(world).await;
        let endpoints = Endpoints { dynamodb: Some(embedded.dynamodb_url.clone()), ..Endpoints::default() };
        let dynamodb = Clients::new(endpoints, REGION, credentials).dynamodb;
        Self { embedded, dynamodb }
    }

    async fn read(&self, table: &str) -> Vec<Item> {
        let items = self.dynamodb.scan().table_name(table).into_paginator().items().send();
        items.collect::<Result<_, _>>().await.unwrap()
    }

    /// As a restore to the time when `items` were read does it.
    async fn restore(&self, table: &str, keys: [&str; 2], items: Vec<Item>) {
        for mut item in self.read(table).await {
            item.retain(|name, _| keys.contains(&name.as_str()));
            self.dynamodb.delete_item().table_name(table).set_key(Some(item)).send().await.unwrap();
        }
        for item in items {
            self.dynamodb.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
        }
    }
}

/// Stops the service and looks into its tables.
async fn in_tables<T>(world: &mut World, work: impl AsyncFnOnce(&Tables, &ResourceNames) -> T) -> T {
    assert!(world.interrupt().await.0.success());
    in_stopped_tables(world, work).await
}

async fn in_stopped_tables<T>(world: &World, work: impl AsyncFnOnce(&Tables, &ResourceNames) -> T) -> T {
    let tables = Tables::of(world).await;
    let done = work(&tables, &tables.embedded.names).await;
    tables.embedded.shutdown().await;
    done
}

fn operate(world: &World, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program());
    command.arg("operate").args(arguments).arg("--data-dir").arg(world.data_dir()).env_remove("RUST_LOG");
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

async fn ordered(world: &World, client: &Client, clip: &Clip) -> String {
    client.order(&client.upload(&clip.make(world.scratch())).await).await
}

/// TO-4: whichever of the two tables comes back from earlier, the other one tells what is owed, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_restored_to_the_past_is_reconciled_and_nothing_is_captured_twice() {
    in_a_world(Options { args: short_leases(), ..Options::default() }, async |world| {
        let client = world.client("acme", 100.0).await;
        let early = ordered(world, &client, &LONG).await;
        client.wait(&early, JOB, |job| job.status == JobStatus::Processing).await;
        // An interrupted service might finish it first.
        world.kill_service(Duration::from_secs(10)).await;
        let (jobs, accounts) = in_stopped_tables(world, async |tables, names| {
            (tables.read(&names.jobs_table).await, tables.read(&names.accounts_table).await)
        })
        .await;
        world.up().await;
        let late = ordered(world, &client, &Clip::SMALL).await;
        for id in [&early, &late] {
            client.completed(id, JOB).await;
        }
        let paid = client.milli_credits().await;
        assert!(paid[2] > 0);

        in_tables(world, async |tables, names| {
            tables.restore(&names.accounts_table, ["client_id", "entry"], accounts).await;
        })
        .await;
        let (agrees, told) = operate(world, &["reconcile"]);
        assert!(!agrees && told.contains(&early) && told.contains(&late), "{told}");
        let (agrees, told) = operate(world, &["reconcile", "--repair"]);
        assert!(agrees && told.contains("2 repaired, 0 open"), "{told}");
        world.up().await;
        assert_eq!(client.milli_credits().await, paid);

        in_tables(world, async |tables, names| {
            tables.restore(&names.jobs_table, ["job_id", "entry"], jobs).await;
        })
        .await;
        let (agrees, told) = operate(world, &["reconcile", "--repair"]);
        // A job that nobody remembers is not made up; what it cost is for somebody to decide.
        assert!(!agrees && told.contains("1 repaired, 1 open") && told.contains(&late), "{told}");
        world.up().await;
        let job = client.job(&early).await;
        assert_eq!((job.status, job.progress), (JobStatus::Completed, 100));
        client.download(&job, &world.scratch().join("again.webm")).await;
        client.get(&format!("/v1/jobs/{late}")).await.is(404, "not_found");
        assert_eq!(client.milli_credits().await, paid);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_grants_what_a_job_was_charged_once() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 100.0).await;
        let id = ordered(world, &client, &Clip::SMALL).await;
        client.completed(&id, JOB).await;
        let [available, held, used] = client.milli_credits().await;
        assert!(used > 0);
        assert!(world.interrupt().await.0.success());
        for word in ["granted", "refunded before"] {
            let (done, told) = operate(world, &["refund", &id, "--note", "hair was green"]);
            assert!(done && told.contains(word), "{told}");
        }
        let (done, told) = operate(world, &["refund", "job_00000000000000000000000000000000"]);
        assert!(!done && told.contains("there is no job_"), "{told}");
        world.up().await;
        assert_eq!(client.milli_credits().await, [available + used, held, used]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_client_has_no_jobs_no_media_and_no_way_in() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("leaver", 10.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let draft = client.order_with(json!({"video_url": video_url, "auto_start": false})).await;
        let stays = world.client("stayer", 10.0).await;
        let kept = ordered(world, &stays, &Clip::SMALL).await;
        stays.completed(&kept, JOB).await;
        assert!(world.interrupt().await.0.success());
        let (done, told) = operate(world, &["forget-client", "leaver"]);
        assert!(!done && told.contains("--yes"), "{told}");
        let (done, told) = operate(world, &["forget-client", "leaver", "--yes"]);
        assert!(done && told.contains("1 keys disabled, 1 jobs deleted"), "{told}");
        world.up().await;
        client.get("/v1/jobs").await.is(401, "invalid_api_key");
        assert_eq!(stays.job(&kept).await.status, JobStatus::Completed);
        in_tables(world, async |tables, names| {
            let usage = tables.read(&names.usage_table).await;
            let of_leaver = |item: &&Item| item["client_id"].as_s().unwrap() == "leaver";
            assert_eq!(usage.iter().filter(of_leaver).count(), 0);
            let jobs = tables.read(&names.jobs_table).await;
            let shell = jobs.iter().find(|item| item["job_id"].as_s().unwrap() == &draft && item.contains_key("doc"));
            assert!(!shell.unwrap()["doc"].as_s().unwrap().contains(&video_url));
        })
        .await;
        world.up().await;
    })
    .await;
}
