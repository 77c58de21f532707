//! The resources of `template.yaml`, typed.
//!
//! Owns: reading the tables, queues and buckets out of the deployment template, and turning their names into
//! the physical names of one stack. Does not own: creating anything, or the template's functions and policies.
//! Invariant: what this module cannot read is an error, never a default; a template that AWS would deploy
//! differently from what runs on one machine must not start.

mod read;

use serde::Deserialize;
use std::collections::BTreeMap;

/// The template this binary was built with.
pub const TEMPLATE: &str = include_str!("../../../template.yaml");

/// The AWS account number of one machine. All zeros, as the other emulators have it.
pub const ACCOUNT_ID: &str = "000000000000";

/// Everything the embedded AWS has to host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    pub tables: Vec<TableSpec>,
    pub queues: Vec<QueueSpec>,
    pub buckets: Vec<BucketSpec>,
}

/// A DynamoDB table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Key in the template's `Resources`, such as `JobsTable`.
    pub logical_id: String,
    /// Physical name, such as `rotoless-jobs`.
    pub name: String,
    /// The key attributes of the table and of its indexes: name and type.
    pub attributes: BTreeMap<String, KeyType>,
    pub key: KeySpec,
    pub indexes: Vec<IndexSpec>,
    /// Name of the attribute (a number, unix seconds) after which an item may be deleted.
    pub ttl_attribute: Option<String>,
}

/// Type of a key attribute, by its letter on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum KeyType {
    S,
    N,
    B,
}

impl KeyType {
    /// The letter DynamoDB uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::N => "N",
            Self::B => "B",
        }
    }
}

/// Partition key and, where there is one, sort key: attribute names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    pub partition: String,
    pub sort: Option<String>,
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    pub name: String,
    pub key: KeySpec,
    pub projection: Projection,
}

/// Which attributes an index carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Projection {
    #[serde(rename = "ALL")]
    All,
    #[serde(rename = "KEYS_ONLY")]
    KeysOnly,
}

impl Projection {
    /// The word DynamoDB uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::KeysOnly => "KEYS_ONLY",
        }
    }
}

/// A standard SQS queue. All times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    pub logical_id: String,
    pub name: String,
    pub visibility_seconds: u32,
    pub retention_seconds: u32,
    pub receive_wait_seconds: u32,
    pub delay_seconds: u32,
    pub redrive: Option<RedriveSpec>,
}

/// Where a message goes that was received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedriveSpec {
    /// Physical name of the dead-letter queue.
    pub dead_letter_queue: String,
    pub max_receive_count: u32,
}

/// An S3 bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSpec {
    pub logical_id: String,
    pub name: String,
    pub expirations: Vec<ExpirationRule>,
    /// Age in days at which an unfinished multipart upload is aborted.
    pub abort_multipart_days: Option<u32>,
    pub cors: Vec<CorsRule>,
}

/// Objects under `prefix` are deleted `days` after they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpirationRule {
    pub prefix: String,
    pub days: u32,
}

/// One rule of the bucket's CORS configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CorsRule {
    pub allowed_methods: Vec<String>,
    pub allowed_origins: Vec<String>,
    #[serde(default)]
    pub allowed_headers: Vec<String>,
    #[serde(default)]
    pub exposed_headers: Vec<String>,
    /// Seconds a browser may keep the answer to a preflight.
    pub max_age: Option<u32>,
}

/// Why the template could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("template.yaml is not the YAML expected: {0}")]
    Syntax(#[from] serde_saphyr::Error),
    #[error("template.yaml, resource {logical_id}: {source}")]
    Resource { logical_id: String, source: serde_json::Error },
    #[error("template.yaml, resource {logical_id}: {what}")]
    Unsupported { logical_id: String, what: String },
}

impl Resources {
    /// Reads the template the binary was built with, for a stack of that name.
    ///
    /// # Errors
    /// When the template uses something this module does not understand.
    pub fn of_stack(stack: &str) -> Result<Self, TemplateError> {
        Self::parse(TEMPLATE, stack)
    }

    /// Reads a template's tables, queues and buckets; other resources are passed over.
    ///
    /// # Errors
    /// See [`Resources::of_stack`].
    pub fn parse(yaml: &str, stack: &str) -> Result<Self, TemplateError> {
        read::resources(yaml, stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_describes_every_table_queue_and_bucket() {
        let all = Resources::of_stack("rotoless").unwrap();
        let mut tables: Vec<&str> = all.tables.iter().map(|t| t.name.as_str()).collect();
        tables.sort_unstable();
        assert_eq!(
            tables,
            [
                "rotoless-accounts",
                "rotoless-deliveries",
                "rotoless-idempotency",
                "rotoless-jobs",
                "rotoless-keys",
                "rotoless-limits",
                "rotoless-usage"
            ]
        );
        let jobs = all.queues.iter().find(|q| q.logical_id == "JobsQueue").unwrap();
        assert_eq!((jobs.visibility_seconds, jobs.retention_seconds, jobs.receive_wait_seconds), (5400, 345_600, 20));
        let redrive = jobs.redrive.as_ref().unwrap();
        assert_eq!((redrive.dead_letter_queue.as_str(), redrive.max_receive_count), ("rotoless-jobs-dlq", 30));
        let bucket = &all.buckets[0];
        assert_eq!(bucket.name, "rotoless-media-000000000000");
        assert_eq!(bucket.abort_multipart_days, Some(1));
        let days: Vec<(&str, u32)> = bucket.expirations.iter().map(|e| (e.prefix.as_str(), e.days)).collect();
        assert_eq!(days, [("uploads/", 1), ("outputs/", 7), ("segments/", 2)]);
    }

    #[test]
    fn money_and_jobs_never_expire_but_records_of_requests_do() {
        let all = Resources::of_stack("rotoless").unwrap();
        let ttl = |id: &str| all.tables.iter().find(|t| t.logical_id == id).unwrap().ttl_attribute.clone();
        for durable in ["KeysTable", "AccountsTable", "JobsTable"] {
            assert_eq!(ttl(durable), None, "{durable}");
        }
        for passing in ["IdempotencyTable", "DeliveriesTable", "LimitsTable", "UsageTable"] {
            assert_eq!(ttl(passing).as_deref(), Some("expires_at"), "{passing}");
        }
    }

    #[test]
    fn every_key_attribute_is_declared_and_nothing_else_is() {
        for table in Resources::of_stack("rotoless").unwrap().tables {
            let mut used: Vec<&str> = Vec::new();
            for key in std::iter::once(&table.key).chain(table.indexes.iter().map(|i| &i.key)) {
                used.push(&key.partition);
                used.extend(key.sort.as_deref());
            }
            used.sort_unstable();
            used.dedup();
            assert_eq!(used, table.attributes.keys().map(String::as_str).collect::<Vec<_>>(), "{}", table.name);
        }
    }

    #[test]
    fn an_intrinsic_that_cannot_be_resolved_is_an_error() {
        let yaml = "Resources:\n  Q:\n    Type: AWS::SQS::Queue\n    Properties:\n      QueueName: {Ref: Name}\n";
        assert!(matches!(Resources::parse(yaml, "x"), Err(TemplateError::Unsupported { .. })));
        let yaml =
            "Resources:\n  Q:\n    Type: AWS::SQS::Queue\n    Properties:\n      QueueName: q\n      FifoQueue: true\n";
        assert!(matches!(Resources::parse(yaml, "x"), Err(TemplateError::Resource { .. })));
    }
}
