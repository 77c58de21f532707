//! A host of its own: killed, it loses nothing it acknowledged; loaded, it stays small.

use super::stack::{Clients, Endpoints, clients, config, credentials, eventually, serve_s3};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use rotoless_embedded::{Embedded, REGION};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Set in the child: the data directory to host.
const HOSTED: &str = "ROTOLESS_TEST_HOSTED_DATA_DIR";
const WRITERS: usize = 4;
/// Acknowledged writes of each kind before the kill.
const ENOUGH: usize = 25;

/// Another process hosting a data directory; killed when dropped.
struct Host {
    process: Child,
    aws_url: String,
    s3_url: String,
}

impl Host {
    fn start(data_dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "aws_conformance::durability::host_a_data_directory_when_asked_to", "--nocapture"])
            .env(HOSTED, data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let urls = output.lines().map_while(Result::ok).find_map(|line| {
            let (_, urls) = line.split_once("hosting ")?;
            let (aws, s3) = urls.split_once(' ')?;
            Some((aws.to_owned(), s3.to_owned()))
        });
        let (aws_url, s3_url) = urls.expect("the host says where it answers");
        Self { process, aws_url, s3_url }
    }

    fn clients(&self) -> Clients {
        let aws = Some(self.aws_url.clone());
        let endpoints = Endpoints { dynamodb: aws.clone(), sqs: aws, s3: Some(self.s3_url.clone()) };
        Clients::new(endpoints, REGION, credentials())
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The child's part of the next test. Alone it shows that a host starts and stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_a_data_directory_when_asked_to() {
    let asked: Option<OsString> = std::env::var_os(HOSTED);
    let own = tempfile::tempdir().unwrap();
    let data_dir = asked.as_ref().map_or(own.path(), Path::new);
    let embedded = Embedded::start(config(data_dir)).await.unwrap();
    let s3_url = serve_s3(&embedded).await;
    if asked.is_some() {
        println!("hosting {} {s3_url}", embedded.sqs_url);
        // Until the parent kills this process, or is gone itself.
        tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await.unwrap();
    }
    embedded.shutdown().await;
}

/// What one writer had acknowledged when the host died.
#[derive(Default)]
struct Acknowledged {
    transactions: BTreeSet<String>,
    messages: BTreeSet<String>,
    objects: BTreeSet<String>,
}

impl Acknowledged {
    fn is_enough(&self) -> bool {
        self.transactions.len() >= ENOUGH && self.messages.len() >= ENOUGH && self.objects.len() >= ENOUGH
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_host_loses_no_acknowledged_transaction_message_or_object() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::start(dir.path());
    let queue = format!("{}/000000000000/rotoless-jobs", host.aws_url);
    let (enough, mut is_enough) = tokio::sync::mpsc::channel(WRITERS);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write_until_refused(host.clients(), queue.clone(), writer, enough.clone())))
        .collect();
    for _ in 0..WRITERS {
        tokio::time::timeout(Duration::from_secs(60), is_enough.recv()).await.unwrap();
    }
    host.kill();

    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    let s3_url = serve_s3(&embedded).await;
    let after = clients(&embedded, &s3_url);
    let mut acknowledged = Acknowledged::default();
    for writer in writers {
        let one = writer.await.unwrap();
        acknowledged.transactions.extend(one.transactions);
        acknowledged.messages.extend(one.messages);
        acknowledged.objects.extend(one.objects);
    }
    check_transactions(&after, &acknowledged.transactions).await;
    check_objects(&after, &embedded.names.media_bucket, &acknowledged.objects).await;
    check_messages(&after, &embedded.names.jobs_queue_url, &acknowledged.messages).await;
    println!(
        "acknowledged and still there: {} transactions, {} messages, {} objects",
        acknowledged.transactions.len(),
        acknowledged.messages.len(),
        acknowledged.objects.len()
    );
    embedded.shutdown().await;
}

async fn write_until_refused(
    clients: Clients,
    queue: String,
    writer: usize,
    enough: tokio::sync::mpsc::Sender<()>,
) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let mut told = false;
    for n in 0.. {
        let id = format!("{writer}-{n}");
        // Two items that must appear together.
        let put = |entry: &str| {
            let put = Put::builder().table_name("rotoless-jobs").item("job_id", AttributeValue::S(id.clone()));
            let put = put.item("entry", AttributeValue::S(entry.to_owned())).build().unwrap();
            TransactWriteItem::builder().put(put).build()
        };
        let transaction = clients.dynamodb.transact_write_items().transact_items(put("job"));
        if transaction.transact_items(put("event#1")).send().await.is_err() {
            break;
        }
        acknowledged.transactions.insert(id.clone());
        if clients.sqs.send_message().queue_url(&queue).message_body(&id).send().await.is_err() {
            break;
        }
        acknowledged.messages.insert(id.clone());
        let put = clients.s3.put_object().bucket("rotoless-media-000000000000").key(&id);
        if put.body(id.clone().into_bytes().into()).send().await.is_err() {
            break;
        }
        acknowledged.objects.insert(id);
        if !told && acknowledged.is_enough() {
            told = enough.send(()).await.is_ok();
        }
    }
    acknowledged
}

async fn check_transactions(after: &Clients, acknowledged: &BTreeSet<String>) {
    let mut found = (BTreeSet::new(), BTreeSet::new());
    let mut start = None;
    loop {
        let scan = after.dynamodb.scan().table_name("rotoless-jobs").consistent_read(true);
        let page = scan.set_exclusive_start_key(start).send().await.unwrap();
        for item in page.items() {
            let id = item["job_id"].as_s().unwrap().clone();
            let seen = if item["entry"].as_s().unwrap() == "job" { &mut found.0 } else { &mut found.1 };
            seen.insert(id);
        }
        start = page.last_evaluated_key;
        if start.is_none() {
            break;
        }
    }
    assert_eq!(found.0, found.1, "transactions torn in two");
    let lost: Vec<_> = acknowledged.difference(&found.0).collect();
    assert!(lost.is_empty(), "lost transactions: {lost:?}");
}

async fn check_objects(after: &Clients, bucket: &str, acknowledged: &BTreeSet<String>) {
    for id in acknowledged {
        let object = after.s3.get_object().bucket(bucket).key(id).send().await.expect("the object is there");
        assert_eq!(object.body.collect().await.unwrap().to_vec(), id.as_bytes());
    }
}

async fn check_messages(after: &Clients, queue: &str, acknowledged: &BTreeSet<String>) {
    let found = std::sync::Mutex::new(BTreeSet::new());
    eventually(Duration::from_secs(30), async || {
        let receive = after.sqs.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(1);
        let received = receive.send().await.unwrap().messages.unwrap_or_default();
        let mut found = found.lock().unwrap();
        found.extend(received.into_iter().filter_map(|message| message.body));
        acknowledged.is_subset(&found).then_some(())
    })
    .await;
}

/// The most memory the process ever had resident, in MiB.
#[cfg(target_os = "linux")]
fn peak_memory_mib(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_stream_through_in_constant_memory() {
    use aws_sdk_s3::presigning::PresigningConfig;
    use futures::StreamExt;
    const CHUNKS: usize = 96;
    const MIB: usize = 1024 * 1024;

    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path());
    let (s3, http) = (host.clients().s3, reqwest::Client::new());
    let valid = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let bytes = CHUNKS * MIB;
    let put = s3.put_object().bucket("rotoless-media-000000000000").key("uploads/large");
    let put = put.content_length(bytes as i64).presigned(valid.clone()).await.unwrap();
    let get = s3.get_object().bucket("rotoless-media-000000000000").key("uploads/large");
    let get = get.presigned(valid).await.unwrap();

    let before = peak_memory_mib(&host.process);
    let body = futures::stream::iter((0..CHUNKS).map(|_| Ok::<_, std::io::Error>(vec![7_u8; MIB])));
    let sent = http.put(put.uri()).header("content-length", bytes).body(reqwest::Body::wrap_stream(body));
    assert!(sent.send().await.unwrap().status().is_success());
    let mut received = http.get(get.uri()).send().await.unwrap().bytes_stream();
    let mut length = 0;
    while let Some(chunk) = received.next().await {
        length += chunk.unwrap().len();
    }
    assert_eq!(length, bytes);
    let grown = peak_memory_mib(&host.process) - before;
    println!("{CHUNKS} MiB in and out: the host grew by {grown} MiB from {before}");
    assert!(grown < 24, "the host grew by {grown} MiB");
}
