//! The checks on a real account. See the header of the parent module for the environment variables.

use super::stack::{Clients, Endpoints, unique};
use super::{dynamodb, s3, sqs};
use aws_credential_types::Credentials;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use std::sync::Arc;

/// Clients of the account and its region, if one is given.
fn account() -> Option<(Clients, String)> {
    let setting = |name: &str| std::env::var_os(name).map(|value| value.into_string().expect("text"));
    let region = setting("ROTOLESS_CONFORMANCE_REGION")?;
    let required = |name: &str| setting(name).unwrap_or_else(|| panic!("{name} is needed for the account's checks"));
    let credentials = Credentials::from_keys(
        required("AWS_ACCESS_KEY_ID"),
        required("AWS_SECRET_ACCESS_KEY"),
        setting("AWS_SESSION_TOKEN"),
    );
    Some((Clients::new(Endpoints::default(), &region, credentials), region))
}

/// Runs the checks and cleans up, whether they pass or not.
async fn run<F: Future<Output = ()> + Send + 'static>(checks: F, clean_up: impl Future<Output = ()>) {
    let ended = tokio::spawn(checks).await;
    clean_up.await;
    ended.expect("the checks hold on the account");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checks_hold_on_the_account_if_one_is_given() {
    let Some((clients, region)) = account() else {
        println!("ROTOLESS_CONFORMANCE_REGION is not set: nothing asked of AWS");
        return;
    };
    let queues = Arc::new(sqs::Target::new(clients.sqs, None));
    run(sqs::run_all(Arc::clone(&queues)), sqs::delete(queues)).await;

    let table = Arc::new(dynamodb::Target::create(clients.dynamodb, None).await);
    run(dynamodb::run_all(Arc::clone(&table)), dynamodb::delete(table)).await;

    let bucket = unique("rotoless-conformance");
    let mut create = clients.s3.create_bucket().bucket(&bucket);
    if region != "us-east-1" {
        let place = BucketLocationConstraint::from(region.as_str());
        create =
            create.create_bucket_configuration(CreateBucketConfiguration::builder().location_constraint(place).build());
    }
    create.send().await.unwrap();
    let bucket = Arc::new(s3::Target::new(clients.s3, bucket, None));
    run(s3::run_all(Arc::clone(&bucket)), s3::delete(bucket)).await;
}
