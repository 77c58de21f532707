//! The hosts as a whole: start-up, the lock, restarts, sweeps, and who may call.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::config::SharedHttpClient;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use axum::body::Body;
use http::{Request, StatusCode};
use rotoless_embedded::{Embedded, EmbeddedConfig, EmbeddedError, Swept};
use std::path::Path;
use std::time::{Duration, Instant};
use tower::ServiceExt;

const SECRET: &str = "the secret of this data directory";

fn config(data_dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        data_dir: data_dir.to_owned(),
        access_key: "ROTOLESSTEST".to_owned(),
        secret_key: SECRET.to_owned().into(),
        chaos: None,
        visibility_seconds: None,
    }
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

fn credentials(access_key: &str, secret: &str) -> Credentials {
    Credentials::from_keys(access_key, secret, None)
}

fn dynamodb(embedded: &Embedded, credentials: Credentials) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new(rotoless_embedded::REGION))
        .endpoint_url(&embedded.dynamodb_url)
        .credentials_provider(credentials)
        .http_client(http_client())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

fn sqs(embedded: &Embedded, credentials: Credentials) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new(rotoless_embedded::REGION))
        .endpoint_url(&embedded.sqs_url)
        .credentials_provider(credentials)
        .http_client(http_client())
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

fn own() -> Credentials {
    credentials("ROTOLESSTEST", SECRET)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_and_a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    println!("first start: {:?}", started.elapsed());
    let second = Embedded::start(config(dir.path())).await;
    assert!(matches!(second, Err(EmbeddedError::InUse { .. })));

    let put = dynamodb(&embedded, own()).put_item().table_name(&embedded.names.keys_table);
    put.item("key_fingerprint", text("abc")).send().await.unwrap();
    let send = sqs(&embedded, own()).send_message().queue_url(&embedded.names.jobs_queue_url);
    send.message_body("hello").send().await.unwrap();
    let old_queue_url = embedded.names.jobs_queue_url.clone();
    embedded.shutdown().await;

    let started = Instant::now();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    println!("second start: {:?}", started.elapsed());
    let get = dynamodb(&embedded, own()).get_item().table_name(&embedded.names.keys_table);
    assert!(get.key("key_fingerprint", text("abc")).send().await.unwrap().item.is_some());
    // The port is another one; a queue URL kept from before still names the queue.
    let receive = sqs(&embedded, own()).receive_message().queue_url(old_queue_url);
    assert_eq!(receive.send().await.unwrap().messages()[0].body(), Some("hello"));
    embedded.shutdown().await;
}

#[tokio::test]
async fn only_the_holder_of_the_key_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    for wrong in [credentials("ROTOLESSTEST", "guessed"), credentials("SOMEBODY", SECRET)] {
        let list = dynamodb(&embedded, wrong.clone()).list_tables().send().await.unwrap_err();
        assert_eq!(list.raw_response().map(|raw| raw.status().as_u16()), Some(403));
        let list = sqs(&embedded, wrong).list_queues().send().await.unwrap_err();
        assert_eq!(list.raw_response().map(|raw| raw.status().as_u16()), Some(403));
    }
    dynamodb(&embedded, own()).list_tables().send().await.unwrap();
    sqs(&embedded, own()).list_queues().send().await.unwrap();
    embedded.shutdown().await;
}

#[tokio::test]
async fn a_web_page_is_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    let address = embedded.dynamodb_url.strip_prefix("http://").unwrap();
    let post = "content-type: application/x-amz-json-1.0\r\nx-amz-target: DynamoDB_20120810.ListTables\r\n";
    for (request, status) in [
        // A page whose name was made to point here.
        (format!("POST / HTTP/1.1\r\nhost: evil.example\r\n{post}content-length: 2\r\n\r\n{{}}"), "403"),
        (format!("POST / HTTP/1.1\r\nhost: {address}\r\norigin: null\r\n{post}content-length: 2\r\n\r\n{{}}"), "403"),
        (
            format!(
                "OPTIONS / HTTP/1.1\r\nhost: {address}\r\norigin: https://evil.example\r\n\
                 access-control-request-method: POST\r\ncontent-length: 0\r\n\r\n"
            ),
            "403",
        ),
        (format!("POST / HTTP/1.1\r\nhost: {address}\r\n{post}content-length: 2\r\n\r\n{{}}"), "403"),
        (format!("GET / HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n"), "400"),
    ] {
        let answer = raw(address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{answer}");
        assert!(!answer.contains("access-control-allow"), "{answer}");
    }
    embedded.shutdown().await;
}

async fn raw(address: &str, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = connection.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).to_ascii_lowercase().replacen("http", "HTTP", 1)
}

#[tokio::test]
async fn the_bucket_lets_nobody_in_without_a_signature_and_pages_ask_first() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    let bucket = &embedded.names.media_bucket;
    let ask = async |request: http::request::Builder, body: &'static str| {
        embedded.s3().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    };
    for request in [
        Request::get(format!("/{bucket}/uploads/a")),
        Request::put(format!("/{bucket}/uploads/a")).header("content-length", "1"),
        Request::delete(format!("/{bucket}/uploads/a")),
        Request::get(format!("/{bucket}?list-type=2")),
        Request::get(format!("/{bucket}/uploads/a?AWSAccessKeyId=ROTOLESSTEST&Signature=x&Expires=9999999999")),
    ] {
        let answer = ask(request.header("host", "127.0.0.1:1"), "x").await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    let form = Request::post(format!("/{bucket}")).header("content-type", "multipart/form-data; boundary=b");
    assert_eq!(ask(form, "--b--").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(Request::get("/another-bucket/key"), "").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(ask(Request::get("/v1/jobs"), "").await.status(), StatusCode::NOT_FOUND);

    let preflight = Request::options(format!("/{bucket}/uploads/a"))
        .header("origin", "https://app.example")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "content-type");
    let answer = ask(preflight, "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let methods = answer.headers()["access-control-allow-methods"].to_str().unwrap().to_owned();
    assert_eq!(methods, "GET,HEAD,PUT");
    assert_eq!(answer.headers()["access-control-max-age"], "3000");
    embedded.shutdown().await;
}

#[tokio::test]
async fn a_table_with_other_keys_than_the_template_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    let table = embedded.names.limits_table.clone();
    let client = dynamodb(&embedded, own());
    client.delete_table().table_name(&table).send().await.unwrap();
    use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
    let attribute = AttributeDefinition::builder().attribute_name("other").attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name("other").key_type(KeyType::Hash);
    let create = client.create_table().table_name(&table).billing_mode(BillingMode::PayPerRequest);
    let create = create.attribute_definitions(attribute.build().unwrap()).key_schema(key.build().unwrap());
    create.send().await.unwrap();
    embedded.shutdown().await;

    let Err(error) = Embedded::start(config(dir.path())).await else { panic!("started on another table") };
    let said = error.to_string();
    assert!(said.contains(&table) && said.contains("template.yaml"), "{said}");
}

#[tokio::test]
async fn a_long_poll_ends_at_once_when_the_host_stops() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    // The job queue waits 20 seconds, as the template says.
    let receive = sqs(&embedded, own()).receive_message().queue_url(&embedded.names.jobs_queue_url);
    let waiting = tokio::spawn(receive.send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    let stopping = Instant::now();
    embedded.shutdown().await;
    assert!(waiting.await.unwrap().unwrap().messages().is_empty());
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
}

#[tokio::test]
async fn one_machine_can_have_a_shorter_visibility_than_the_template() {
    let dir = tempfile::tempdir().unwrap();
    let attributes = async |visibility_seconds| {
        let config = EmbeddedConfig { visibility_seconds, ..config(dir.path()) };
        let embedded = Embedded::start(config).await.unwrap();
        let ask = async |queue: &str| {
            let ask = sqs(&embedded, own()).get_queue_attributes().queue_url(queue);
            let all = ask.attribute_names(aws_sdk_sqs::types::QueueAttributeName::All).send().await.unwrap();
            all.attributes.unwrap()[&aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout].clone()
        };
        let both = (ask(&embedded.names.jobs_queue_url).await, ask(&embedded.names.jobs_dlq_url).await);
        embedded.shutdown().await;
        both
    };
    assert_eq!(attributes(Some(2)).await, ("2".to_owned(), "30".to_owned()));
    assert_eq!(attributes(None).await, ("5400".to_owned(), "30".to_owned()));
}

#[tokio::test]
async fn a_sweep_deletes_expired_items_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    let client = dynamodb(&embedded, own());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let tables = [
        (&embedded.names.idempotency_table, "scope"),
        (&embedded.names.limits_table, "bucket"),
        // Without a TTL in the template: the attribute means nothing there.
        (&embedded.names.keys_table, "key_fingerprint"),
    ];
    for (table, key) in tables {
        for (name, expires_at) in [("old", now - 60), ("young", now + 3600)] {
            let put = client.put_item().table_name(table).item(key, text(name));
            put.item("expires_at", AttributeValue::N(expires_at.to_string())).send().await.unwrap();
        }
    }
    assert_eq!(embedded.sweep_expired().await, Swept { items: 2, ..Swept::default() });
    for (table, key) in tables {
        let left = client.scan().table_name(table).send().await.unwrap();
        let mut names: Vec<&str> = left.items().iter().map(|item| item[key].as_s().unwrap().as_str()).collect();
        names.sort_unstable();
        let expected: &[&str] = if key == "key_fingerprint" { &["old", "young"] } else { &["young"] };
        assert_eq!(names, expected, "{table}");
    }
    embedded.shutdown().await;
}
