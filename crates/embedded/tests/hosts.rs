//! The hosts as a whole: start-up, the lock, restarts, and who may call.

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use rotoless_embedded::{Embedded, EmbeddedConfig, EmbeddedError};
use std::path::Path;

fn config(data_dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        data_dir: data_dir.to_owned(),
        access_key: "ROTOLESSTEST".to_owned(),
        secret_key: "a secret of this data directory".to_owned().into(),
        chaos: None,
        visibility_seconds: None,
    }
}

fn credentials(secret: &str) -> Credentials {
    Credentials::from_keys("ROTOLESSTEST", secret, None)
}

fn dynamodb(url: &str, secret: &str) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(credentials(secret))
        .http_client(http_client())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

fn sqs(url: &str) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(credentials("a secret of this data directory"))
        .http_client(http_client())
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

fn http_client() -> aws_smithy_http_client_reexport::SharedHttpClient {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

mod aws_smithy_http_client_reexport {
    pub(crate) use aws_sdk_sqs::config::SharedHttpClient;
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_and_a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    println!("first start: {:?}", started.elapsed());
    assert!(matches!(Embedded::start(config(dir.path())).await, Err(EmbeddedError::InUse { .. })));

    let db = dynamodb(&embedded.dynamodb_url, "a secret of this data directory");
    db.put_item()
        .table_name(&embedded.names.keys_table)
        .item("key_fingerprint", AttributeValue::S("abc".into()))
        .send()
        .await
        .unwrap();
    let queue = sqs(&embedded.sqs_url);
    queue.send_message().queue_url(&embedded.names.jobs_queue_url).message_body("hello").send().await.unwrap();
    embedded.shutdown().await;

    let started = std::time::Instant::now();
    let embedded = Embedded::start(config(dir.path())).await.unwrap();
    println!("second start: {:?}", started.elapsed());
    let db = dynamodb(&embedded.dynamodb_url, "a secret of this data directory");
    let item = db
        .get_item()
        .table_name(&embedded.names.keys_table)
        .key("key_fingerprint", AttributeValue::S("abc".into()))
        .send()
        .await
        .unwrap();
    assert!(item.item.is_some());
    let queue = sqs(&embedded.sqs_url);
    let received = queue.receive_message().queue_url(&embedded.names.jobs_queue_url).send().await.unwrap();
    assert_eq!(received.messages()[0].body(), Some("hello"));
    embedded.shutdown().await;
}
