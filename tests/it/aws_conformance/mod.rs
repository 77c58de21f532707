//! What Rotoless relies on of DynamoDB, S3 and SQS, checked through the AWS SDKs against whatever answers.
//!
//! The same checks run on
//! - the embedded AWS of one machine: always, each check a test of its own;
//! - Amazon's DynamoDB Local, DynamoDB's part: always, as one test. `scripts/fetch-dynamodb-local` puts it into
//!   `.cache/dynamodb-local`, or the directory `ROTOLESS_DYNAMODB_LOCAL` names; without it the test fails;
//! - a real AWS account: when `ROTOLESS_CONFORMANCE_REGION` names a region, with the credentials of
//!   `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if set, `AWS_SESSION_TOKEN`. It creates one table, one bucket
//!   and a few queues, all named `rotoless-conformance-…`, deletes them again, and costs cents.
//!
//! A check takes nothing for granted that AWS does not promise: where the service is eventually consistent it waits,
//! and where it may answer a conflict it tries again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod amazon;
mod durability;
mod dynamodb;
mod dynamodb_local;
mod s3;
mod sqs;
pub(crate) mod stack;

/// Makes each check a test on the embedded AWS, and `run_all` one that runs them all on another target.
macro_rules! checks {
    ($target:ty, $start:path; $($name:ident),* $(,)?) => {
        mod on_the_embedded_aws {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let target = $start().await;
                    super::$name(target.as_ref()).await;
                }
            )*
        }

        /// Runs every check at once, and panics with the names of those that failed.
        pub(super) async fn run_all(target: std::sync::Arc<$target>) {
            let mut running = tokio::task::JoinSet::new();
            $(
                let shared = std::sync::Arc::clone(&target);
                running.spawn(async move {
                    let check = tokio::spawn(async move { $name(&shared).await });
                    (stringify!($name), check.await)
                });
            )*
            let mut failed = Vec::new();
            while let Some(ended) = running.join_next().await {
                let (name, result) = ended.unwrap();
                if result.is_err() {
                    failed.push(name);
                }
            }
            assert!(failed.is_empty(), "checks that failed: {failed:?}");
        }
    };
}
pub(crate) use checks;
