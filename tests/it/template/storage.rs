//! What is stored: there is a table for each that the code knows, what is owed outlives the stack, and what is passing ends.

use std::collections::BTreeSet;

use rotoless_embedded::template::Resources;
use serde_json::{Value, json};

use super::stack::{Stack, without};
use super::{Problems, hold};

/// The variable that names it, partition key, sort key, indexes, and the attribute after which an item ends.
type Table = (&'static str, &'static str, Option<&'static str>, &'static [&'static str], Option<&'static str>);

/// Tables, keys and indexes as the adapters name them. That they work with these is what every test on the embedded AWS
/// shows, whose tables are the template's; that the template has no others is shown here.
const TABLES: [Table; 7] = [
    ("TABLE_ACCOUNTS", "client_id", Some("entry"), &[], None),
    ("TABLE_DELIVERIES", "job_id", Some("delivery_id"), &["by-due"], Some("expires_at")),
    ("TABLE_IDEMPOTENCY", "scope", None, &[], Some("expires_at")),
    ("TABLE_JOBS", "job_id", Some("entry"), &["by-client", "by-due"], None),
    ("TABLE_KEYS", "key_fingerprint", None, &[], None),
    ("TABLE_LIMITS", "bucket", None, &[], Some("expires_at")),
    ("TABLE_USAGE", "client_id", Some("entry"), &[], Some("expires_at")),
];

/// The template's objects, read as the embedded AWS reads them.
fn read(stack: &Stack) -> Resources {
    // YAML of our own making: JSON is YAML.
    Resources::parse(&stack.main.to_string(), "rotoless").unwrap()
}

fn the_tables_are_those_that_the_adapters_know(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let tables = read(stack).tables;
    let variables = &stack.main["Globals"]["Function"]["Environment"]["Variables"];
    for (key, partition, sort, indexes, ttl) in TABLES {
        let id = variables[key]["Ref"].as_str().unwrap_or_default();
        let Some(table) = tables.iter().find(|table| table.logical_id == id) else {
            problems.push(format!("{key} names no table"));
            continue;
        };
        let names: BTreeSet<&str> = table.indexes.iter().map(|index| index.name.as_str()).collect();
        let same = table.key.partition == partition
            && table.key.sort.as_deref() == sort
            && names == indexes.iter().copied().collect()
            && table.ttl_attribute.as_deref() == ttl;
        if !same {
            problems.push(format!("{key}: {table:?}"));
        }
    }
    if tables.len() != TABLES.len() {
        problems.push(format!("{} tables", tables.len()));
    }
    problems
}

fn what_is_owed_outlives_the_stack(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let kinds = ["AWS::DynamoDB::Table", "AWS::S3::Bucket"];
    let stateful = kinds.into_iter().flat_map(|kind| stack.of(kind)).map(|(id, _)| id);
    // Clients verify webhooks by it.
    for id in stateful.chain(["WebhookMasterSecret"]) {
        let resource = &stack.main["Resources"][id];
        if resource["DeletionPolicy"] != "RetainExceptOnCreate" || resource["UpdateReplacePolicy"] != "Retain" {
            problems.push(format!("{id} goes with the stack, or stays of one that never was"));
        }
    }
    for (id, table) in stack.of("AWS::DynamoDB::Table") {
        let table = &table["Properties"];
        let backup = json!({"PointInTimeRecoveryEnabled": true, "RecoveryPeriodInDays": 35});
        if table["PointInTimeRecoverySpecification"] != backup {
            problems.push(format!("{id} cannot be restored to any point of 35 days"));
        }
        if table["DeletionProtectionEnabled"] != json!({"Ref": "DeletionProtection"}) {
            problems.push(format!("{id} can be deleted by hand"));
        }
        let capped = |of: &Value| of["OnDemandThroughput"]["Fn::If"][0] == "TablesCapped";
        let indexes = table["GlobalSecondaryIndexes"].as_array().cloned().unwrap_or_default();
        if table["BillingMode"] != "PAY_PER_REQUEST" || !capped(table) || !indexes.iter().all(capped) {
            problems.push(format!("{id} is paid for while idle, or cannot be capped"));
        }
    }
    if stack.main["Parameters"]["DeletionProtection"]["Default"] != "true" {
        problems.push("protection is off unless asked for".to_owned());
    }
    problems
}

fn the_bucket_is_private_and_forgets(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, bucket) in stack.of("AWS::S3::Bucket") {
        let bucket = &bucket["Properties"];
        let blocks = ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"];
        if !blocks.iter().all(|block| bucket["PublicAccessBlockConfiguration"][block] == true) {
            problems.push(format!("{id} may become public"));
        }
        if bucket["OwnershipControls"]["Rules"] != json!([{"ObjectOwnership": "BucketOwnerEnforced"}]) {
            problems.push(format!("{id} knows access lists"));
        }
        if bucket.get("BucketEncryption").is_none() {
            problems.push(format!("{id} does not say how it encrypts"));
        }
    }
    let policy = rotoless_core::policy::Policy::default();
    let days = |span: jiff::SignedDuration| u32::try_from(span.as_hours().div_euclid(24)).unwrap();
    let kept =
        [("uploads/", days(policy.upload_retention)), ("outputs/", days(policy.output_retention)), ("segments/", 2)];
    for bucket in read(stack).buckets {
        for (prefix, days) in kept {
            if !bucket.expirations.iter().any(|rule| rule.prefix == prefix && rule.days == days) {
                problems.push(format!("{}: {prefix} is not forgotten after {days} days", bucket.name));
            }
        }
        if bucket.abort_multipart_days.is_none() {
            problems.push(format!("{}: uploads that were never ended are paid for", bucket.name));
        }
        let allowed = |method: &str| bucket.cors.iter().any(|rule| rule.allowed_methods.iter().any(|of| of == method));
        if !["GET", "HEAD", "PUT"].iter().all(|method| allowed(method)) {
            problems.push(format!("{}: a page cannot use its links", bucket.name));
        }
    }
    problems
}

/// What nobody understands is kept for whoever comes to look.
fn every_queue_has_a_dead_letter_queue_that_keeps_longer(stack: &Stack) -> Problems {
    let queues = read(stack).queues;
    let mut problems = Problems::new();
    let dead: BTreeSet<&str> = queues
        .iter()
        .filter_map(|queue| queue.redrive.as_ref())
        .map(|redrive| redrive.dead_letter_queue.as_str())
        .collect();
    for queue in &queues {
        match &queue.redrive {
            None if dead.contains(queue.name.as_str()) => {}
            None => problems.push(format!("{} has no dead letter queue", queue.name)),
            Some(redrive) => {
                let kept =
                    queues.iter().find(|other| other.name == redrive.dead_letter_queue).unwrap().retention_seconds;
                if kept <= queue.retention_seconds || queue.retention_seconds < 2 * 24 * 3600 {
                    problems.push(format!("{}: {} s, then {kept} s", queue.name, queue.retention_seconds));
                }
            }
        }
    }
    for (id, queue) in stack.of("AWS::SQS::Queue") {
        if queue["Properties"]["SqsManagedSseEnabled"] != true {
            problems.push(format!("{id} is not encrypted"));
        }
    }
    problems
}

#[test]
fn what_is_stored_is_kept_as_promised() {
    hold(&[
        (
            "the tables are those that the adapters know",
            the_tables_are_those_that_the_adapters_know,
            &[
                |stack| *stack.at("JobsTable", "/GlobalSecondaryIndexes/1/IndexName") = json!("by-time"),
                |stack| *stack.at("LimitsTable", "/TimeToLiveSpecification/AttributeName") = json!("ends_at"),
                |stack| *stack.at("UsageTable", "/KeySchema/1/AttributeName") = json!("client_id"),
            ],
        ),
        (
            "what is owed outlives the stack",
            what_is_owed_outlives_the_stack,
            &[
                |stack| without(&mut stack.main, "/Resources/AccountsTable", "DeletionPolicy"),
                |stack| stack.main["Resources"]["MediaBucket"]["UpdateReplacePolicy"] = json!("Delete"),
                |stack| without(&mut stack.main, "/Resources/JobsTable/Properties", "PointInTimeRecoverySpecification"),
                |stack| without(&mut stack.main, "/Resources/JobsTable/Properties", "DeletionProtectionEnabled"),
                |stack| {
                    without(
                        &mut stack.main,
                        "/Resources/JobsTable/Properties/GlobalSecondaryIndexes/0",
                        "OnDemandThroughput",
                    )
                },
                |stack| without(&mut stack.main, "/Resources/WebhookMasterSecret", "DeletionPolicy"),
            ],
        ),
        (
            "the bucket is private and forgets",
            the_bucket_is_private_and_forgets,
            &[
                |stack| *stack.at("MediaBucket", "/PublicAccessBlockConfiguration/BlockPublicPolicy") = json!(false),
                |stack| *stack.at("MediaBucket", "/LifecycleConfiguration/Rules/1/ExpirationInDays") = json!(30),
                |stack| *stack.at("MediaBucket", "/LifecycleConfiguration/Rules/3/Status") = json!("Disabled"),
                |stack| *stack.at("MediaBucket", "/CorsConfiguration/CorsRules/0/AllowedMethods") = json!(["GET"]),
            ],
        ),
        (
            "every queue has a dead letter queue that keeps longer",
            every_queue_has_a_dead_letter_queue_that_keeps_longer,
            &[
                |stack| without(&mut stack.main, "/Resources/JobsQueue/Properties", "RedrivePolicy"),
                |stack| *stack.at("JobsDeadLetterQueue", "/MessageRetentionPeriod") = json!(345_600),
                |stack| without(&mut stack.main, "/Resources/JobsQueue/Properties", "SqsManagedSseEnabled"),
            ],
        ),
    ]);
}
