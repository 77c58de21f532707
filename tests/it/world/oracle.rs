//! What must hold after every test, read from the stopped service's own files.
//!
//! Owns: the invariants I-1 to I-6, I-9 and I-10 of the guarantees, that usage agrees with the balance, and that what
//! was deleted is gone. Looks at rows and objects as they are stored, not
//! through the code that wrote them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::QueueAttributeName;
use rotoless_contract::manifest::{Manifest, manifest_key};
use rotoless_contract::signature::sha256_hex;
use rotoless_embedded::{Embedded, EmbeddedConfig, REGION};
use serde_json::Value;

use super::World;
use crate::aws_conformance::stack::{Clients, Endpoints, serve_s3};

/// Claims of one run that may count.
const MAX_ATTEMPTS: usize = 3;

type Item = std::collections::HashMap<String, AttributeValue>;

/// A job with everything that is kept beside it.
struct Kept {
    job: Value,
    attempts: Vec<Value>,
}

/// A row of the ledger.
#[derive(Debug)]
struct Row {
    entry: String,
    kind: String,
    /// To available, held, used.
    delta: [i128; 3],
    job: Option<(String, u64)>,
}

#[derive(Default)]
struct Account {
    /// Available, held, used.
    balance: [i128; 3],
    granted: i128,
    rows: Vec<Row>,
}

/// The running service's queue.
pub(super) fn queue(world: &World) -> (aws_sdk_sqs::Client, String) {
    let environment = world.worker_environment();
    let variable = |name: &str| environment[name].clone();
    let credentials = Credentials::from_keys(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), None);
    let endpoints = Endpoints { sqs: Some(variable("AWS_ENDPOINT_URL_SQS")), ..Endpoints::default() };
    let sqs = Clients::new(endpoints, REGION, credentials).sqs;
    (sqs, variable("QUEUE_URL"))
}

/// Waits until the running service's workers have left nothing in the queue.
pub(super) async fn queue_empties(world: &World, limit: Duration) {
    let (sqs, queue) = queue(world);
    let deadline = Instant::now() + limit;
    loop {
        let left = messages(&sqs, &queue).await;
        if left == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{left} messages are left after {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The embedded AWS of a service that is stopped, and what opens it.
pub(crate) async fn embedded_of(world: &World) -> (Embedded, Credentials) {
    let secrets = world.secrets_file();
    let text = |name: &str| secrets[name].as_str().unwrap().to_owned();
    let embedded = Embedded::start(EmbeddedConfig {
        data_dir: world.data_dir(),
        access_key: text("access_key"),
        secret_key: text("secret_key").into(),
        chaos: None,
        visibility_seconds: Some(30),
    })
    .await
    .unwrap();
    (embedded, Credentials::from_keys(text("access_key"), text("secret_key"), None))
}

/// Fails the test unless every invariant holds.
pub(super) async fn judge(world: &World) {
    let mut wrong = Vec::new();
    check_log(world, &mut wrong);
    check_files(world, &mut wrong);
    let (embedded, credentials) = embedded_of(world).await;
    let s3 = serve_s3(&embedded).await;
    let endpoints =
        Endpoints { dynamodb: Some(embedded.dynamodb_url.clone()), s3: Some(s3), sqs: Some(embedded.sqs_url.clone()) };
    let clients = Clients::new(endpoints, REGION, credentials);

    let jobs = read_jobs(&clients, &embedded.names.jobs_table).await;
    let accounts = read_accounts(&clients, &embedded.names.accounts_table).await;
    let used = read_usage(&clients, &embedded.names.usage_table).await;
    for (client, account) in &accounts {
        check_account(client, account, &mut wrong);
        let counted = used.get(client).copied().unwrap_or_default();
        if counted != account.balance[2] {
            wrong.push(format!("usage of {client}: {counted} milli-credits, of {} in the balance", account.balance[2]));
        }
    }
    let rows: Vec<&Row> = accounts.values().flat_map(|account| &account.rows).collect();
    for (id, kept) in &jobs {
        check_money(id, kept, &rows, &mut wrong);
        check_attempts(id, kept, &mut wrong);
        check_output(id, kept, &clients, &embedded.names.media_bucket, &mut wrong).await;
    }
    let left = messages(&clients.sqs, &embedded.names.jobs_queue_url).await;
    if left > 0 && !world.options.messages_left {
        wrong.push(format!("I-5: {left} messages are left"));
    }
    let dead = messages(&clients.sqs, &embedded.names.jobs_dlq_url).await;
    if dead > 0 {
        wrong.push(format!("I-5: {dead} dead letters"));
    }
    let uploads = clients.s3.list_multipart_uploads().bucket(&embedded.names.media_bucket).send().await.unwrap();
    if !uploads.uploads().is_empty() {
        wrong.push(format!("I-9: unfinished uploads: {:?}", uploads.uploads()));
    }
    embedded.shutdown().await;
    assert!(wrong.is_empty(), "the oracle says:\n{}\n---- log\n{}", wrong.join("\n"), world.logs());
}

/// I-1.
fn check_account(client: &str, account: &Account, wrong: &mut Vec<String>) {
    let Account { balance, granted, rows } = account;
    let sum = rows.iter().fold([0; 3], |sum: [i128; 3], row| std::array::from_fn(|part| sum[part] + row.delta[part]));
    let granted_by_rows: i128 = rows.iter().filter(|row| row.kind == "grant").map(|row| row.delta[0]).sum();
    if balance.iter().any(|part| *part < 0) {
        wrong.push(format!("I-1: {client} has a negative balance: {balance:?}"));
    }
    if sum != *balance || granted_by_rows != *granted || balance.iter().sum::<i128>() != *granted {
        wrong
            .push(format!("I-1: {client}: balance {balance:?}, ledger {sum:?}, granted {granted} = {granted_by_rows}"));
    }
}

/// I-2, I-3.
fn check_money(id: &str, kept: &Kept, rows: &[&Row], wrong: &mut Vec<String>) {
    let (phase, hold) = (phase(kept), kept.job.pointer("/state/hold/hold").and_then(Value::as_str).unwrap_or("?"));
    let rows: Vec<&&Row> = rows.iter().filter(|row| row.job.as_ref().is_some_and(|(job, _)| job == id)).collect();
    let of_kind = |kind: &str| rows.iter().filter(|row| row.kind == kind).count();
    let captured = of_kind("capture");
    if captured > 1 || (phase == "completed") != (captured == 1) {
        wrong.push(format!("I-2: {id} is {phase} and was captured {captured} times"));
    }
    let terminal = matches!(phase, "completed" | "failed");
    let runs: Vec<u64> =
        rows.iter().filter(|row| row.kind == "hold").filter_map(|row| Some(row.job.as_ref()?.1)).collect();
    for run in &runs {
        let of_run = rows.iter().filter(|row| row.job.as_ref().is_some_and(|(_, other)| other == run));
        let settled = of_run.filter(|row| row.kind == "capture" || row.kind == "release").count();
        let ended = terminal || run < runs.iter().max().unwrap();
        if settled != usize::from(ended) {
            wrong.push(format!("I-2: run {run} of {id}, {phase}, was settled {settled} times"));
        }
    }
    if terminal && hold == "held" {
        wrong.push(format!("I-3: {id} is {phase} and still holds credits"));
    }
    let due = kept.job.get("due_at").is_some_and(|due| !due.is_null());
    // A deleted job is looked at once more, when no worker's link can write for it any longer.
    if terminal && due && kept.job["deletion"].is_null() {
        wrong.push(format!("I-3: {id} is {phase} and still due"));
    }
}

/// I-6.
fn check_attempts(id: &str, kept: &Kept, wrong: &mut Vec<String>) {
    let numbers: Vec<u64> = kept.attempts.iter().filter_map(|attempt| attempt["attempt"].as_u64()).collect();
    let claimed = kept.job.pointer("/state/attempts").and_then(Value::as_u64).unwrap_or(u64::MAX);
    if numbers != (1..=claimed).collect::<Vec<_>>() {
        wrong.push(format!("I-6: {id} counts {claimed} attempts and keeps {numbers:?}"));
    }
    let mut counted: BTreeMap<u64, usize> = BTreeMap::new();
    for attempt in kept.attempts.iter().filter(|attempt| attempt["outcome"] != "abandoned") {
        *counted.entry(attempt["run"].as_u64().unwrap_or(0)).or_default() += 1;
    }
    if counted.values().any(|count| *count > MAX_ATTEMPTS) {
        wrong.push(format!("I-6: {id} has too many attempts: {counted:?}"));
    }
    let runs = kept.attempts.iter().map(|attempt| attempt["run"].as_u64());
    if !runs.is_sorted() {
        wrong.push(format!("I-6: {id} went back to an earlier run: {:?}", kept.attempts));
    }
    // Each begins when the one before it has ended, also when its worker died without a word.
    let at_work = usize::from(phase(kept) == "processing");
    let open = kept.attempts.iter().filter(|attempt| attempt["ended_at"].is_null() || attempt["outcome"].is_null());
    let last_open = kept.attempts.last().is_some_and(|last| last["ended_at"].is_null());
    if open.count() != at_work || last_open != (at_work == 1) {
        wrong.push(format!(
            "I-6: {id} is {} and its attempts are not ended as they should: {:?}",
            phase(kept),
            kept.attempts
        ));
    }
}

/// I-4.
async fn check_output(id: &str, kept: &Kept, clients: &Clients, bucket: &str, wrong: &mut Vec<String>) {
    if !kept.job["deletion"].is_null() {
        let left = clients.s3.list_objects_v2().bucket(bucket).prefix(format!("outputs/{id}/")).send().await.unwrap();
        if left.key_count().unwrap_or(0) > 0 {
            wrong.push(format!("G-41: {id} is deleted and {:?} are left", left.contents()));
        }
        return;
    }
    let output = &kept.job["output"];
    if phase(kept) != "completed" {
        if !output.is_null() {
            wrong.push(format!("I-4: {id} is {} and has an output", phase(kept)));
        }
        return;
    }
    let run = serde_json::from_value(kept.job["state"]["run"].clone()).unwrap();
    let object = async |key: &str| {
        let object = clients.s3.get_object().bucket(bucket).key(key).send().await.ok()?;
        Some(object.body.collect().await.ok()?.into_bytes())
    };
    let Some(manifest) = object(&manifest_key(&id.parse().unwrap(), run)).await else {
        wrong.push(format!("I-4: {id} is completed and run {run} has no manifest"));
        return;
    };
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    if output["key"] != manifest.output_key || output["info"] != serde_json::to_value(&manifest.output).unwrap() {
        wrong.push(format!("I-4: {id} has {output:#} and its manifest says {manifest:#?}"));
    }
    let Some(bytes) = object(&manifest.output_key).await else {
        wrong.push(format!("I-4: the output of {id} does not exist"));
        return;
    };
    let found = (bytes.len() as u64, sha256_hex(&bytes));
    if found != (manifest.output.size_bytes, manifest.output.sha256) {
        wrong.push(format!("I-4: the output of {id} is not what its manifest says: {found:?}"));
    }
}

/// I-9. That no process is left, the stop itself checked.
fn check_files(world: &World, wrong: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(world.data_dir().join("work")) else { return };
    let left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).filter(|name| name != "lock").collect();
    if !left.is_empty() {
        wrong.push(format!("I-9: temporary files are left: {left:?}"));
    }
}

/// I-10.
fn check_log(world: &World, wrong: &mut Vec<String>) {
    let logs = world.logs();
    for secret in world.secrets.iter().filter(|secret| logs.contains(secret.as_str())) {
        // Only its beginning: this text is a log, too.
        wrong.push(format!("I-10: a secret is in the log: {}…", secret.chars().take(6).collect::<String>()));
    }
    for forbidden in ["X-Amz-Signature", "panicked at", "X-Api-Key"] {
        if logs.contains(forbidden) {
            wrong.push(format!("I-10: the log contains {forbidden}"));
        }
    }
    let expected = |line: &&str| world.options.expected_errors.iter().any(|text| line.contains(text));
    for line in logs.lines().filter(|line| line.contains(" ERROR ")).filter(|line| !expected(line)) {
        wrong.push(format!("I-10: unexpected: {line}"));
    }
}

fn phase(kept: &Kept) -> &str {
    kept.job.pointer("/state/phase/phase").and_then(Value::as_str).unwrap_or("?")
}

async fn messages(sqs: &aws_sdk_sqs::Client, queue: &str) -> u64 {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let asked = sqs.get_queue_attributes().queue_url(queue).set_attribute_names(Some(names.to_vec()));
    let reply = asked.send().await.unwrap();
    let attributes = reply.attributes().unwrap();
    names.iter().map(|name| attributes[name].parse::<u64>().unwrap()).sum()
}

async fn read_jobs(clients: &Clients, table: &str) -> BTreeMap<String, Kept> {
    let mut jobs = BTreeMap::new();
    let mut attempts: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for item in scan(clients, table).await {
        let (id, entry) = (text(&item, "job_id"), text(&item, "entry"));
        if entry == "upload" {
            continue;
        }
        let doc: Value = serde_json::from_str(&text(&item, "doc")).unwrap();
        if entry == "job" {
            jobs.insert(id, doc);
        } else if entry.starts_with("attempt#") {
            attempts.entry(id).or_default().push((entry, doc));
        }
    }
    let kept = |(id, job): (String, Value)| {
        let mut attempts = attempts.remove(&id).unwrap_or_default();
        attempts.sort_by(|one, other| one.0.cmp(&other.0));
        let attempts = attempts.into_iter().map(|(_, doc)| doc).collect();
        (id, Kept { job, attempts })
    };
    let jobs = jobs.into_iter().map(kept).collect();
    assert!(attempts.is_empty(), "attempts without a job: {attempts:?}");
    jobs
}

async fn read_accounts(clients: &Clients, table: &str) -> BTreeMap<String, Account> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    let money = |item: &Item| text(item, "entry") != "signing";
    for item in scan(clients, table).await.into_iter().filter(money) {
        let account = accounts.entry(text(&item, "client_id")).or_default();
        let parts = ["available", "held", "used"].map(|part| number(&item, part));
        let entry = text(&item, "entry");
        if entry == "balance" {
            account.balance = parts;
            account.granted = number(&item, "granted");
        } else {
            let job = item.contains_key("job_id").then(|| (text(&item, "job_id"), number(&item, "run") as u64));
            account.rows.push(Row { entry, kind: text(&item, "kind"), delta: parts, job });
        }
    }
    assert!(accounts.values().flat_map(|account| &account.rows).all(|row| row.entry.starts_with("ledger#")));
    accounts
}

/// Milli-credits that the counters of all days say each client was charged.
async fn read_usage(clients: &Clients, table: &str) -> BTreeMap<String, i128> {
    let mut used = BTreeMap::new();
    for item in scan(clients, table).await.iter().filter(|item| text(item, "entry").starts_with("day#")) {
        let credits =
            item.keys().filter(|name| name.ends_with("_credits_milli")).map(|name| number(item, name)).sum::<i128>();
        *used.entry(text(item, "client_id")).or_default() += credits;
    }
    used
}

async fn scan(clients: &Clients, table: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut position = None;
    loop {
        let scan = clients.dynamodb.scan().table_name(table).consistent_read(true);
        let page = scan.set_exclusive_start_key(position).send().await.unwrap();
        items.extend_from_slice(page.items());
        position = page.last_evaluated_key;
        if position.is_none() {
            return items;
        }
    }
}

fn text(item: &Item, name: &str) -> String {
    item[name].as_s().unwrap().clone()
}

fn number(item: &Item, name: &str) -> i128 {
    item[name].as_n().unwrap().parse().unwrap()
}
