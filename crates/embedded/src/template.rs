//! The resources of `template.yaml`, typed.
//!
//! Owns: reading the tables, queues and buckets out of the deployment template, and turning their names into
//! the physical names of one stack. Does not own: creating anything, or the template's functions and policies.
//! Invariant: what this module cannot read is an error, never a default; a template that AWS would deploy
//! differently from what runs on one machine must not start.

use serde::Deserialize;
use serde_json::Value;
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
        let document: Document = serde_saphyr::from_str(yaml)?;
        let naming = Naming { stack, resources: &document.resources };
        let mut all = Self { tables: Vec::new(), queues: Vec::new(), buckets: Vec::new() };
        for (logical_id, resource) in &document.resources {
            match resource.kind.as_str() {
                "AWS::DynamoDB::Table" => all.tables.push(table(logical_id, resource, &naming)?),
                "AWS::SQS::Queue" => all.queues.push(queue(logical_id, resource, &naming)?),
                "AWS::S3::Bucket" => all.buckets.push(bucket(logical_id, resource, &naming)?),
                _ => {}
            }
        }
        Ok(all)
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Resources")]
    resources: BTreeMap<String, Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Properties", default)]
    properties: Value,
}

/// Resolves the few intrinsics the template's header allows.
struct Naming<'a> {
    stack: &'a str,
    resources: &'a BTreeMap<String, Resource>,
}

impl Naming<'_> {
    fn name(&self, logical_id: &str, value: &Value) -> Result<String, TemplateError> {
        let unsupported = |what: String| TemplateError::Unsupported { logical_id: logical_id.to_owned(), what };
        let pattern = match value {
            Value::String(literal) => return Ok(literal.clone()),
            Value::Object(map) => map.get("Fn::Sub").and_then(Value::as_str),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
        };
        let pattern = pattern.ok_or_else(|| unsupported(format!("a name must be a string or Fn::Sub, not {value}")))?;
        let name = pattern.replace("${AWS::StackName}", self.stack).replace("${AWS::AccountId}", ACCOUNT_ID);
        if name.contains("${") {
            return Err(unsupported(format!("Fn::Sub of {pattern} uses more than the stack's name and the account")));
        }
        Ok(name)
    }

    /// Physical name of the queue a `Fn::GetAtt: [X, Arn]` points at.
    fn queue_of_arn(&self, logical_id: &str, arn: &Value) -> Result<String, TemplateError> {
        let unsupported = |what: &str| TemplateError::Unsupported {
            logical_id: logical_id.to_owned(),
            what: format!("deadLetterTargetArn {arn}: {what}"),
        };
        let target = match arn.get("Fn::GetAtt").and_then(Value::as_array).map(Vec::as_slice) {
            Some([Value::String(target), Value::String(attribute)]) if attribute == "Arn" => target,
            _ => return Err(unsupported("must be Fn::GetAtt: [Queue, Arn]")),
        };
        let resource = self.resources.get(target).ok_or_else(|| unsupported("no such resource"))?;
        self.name(target, &resource.properties["QueueName"])
    }
}

fn properties<T: for<'de> Deserialize<'de>>(logical_id: &str, resource: &Resource) -> Result<T, TemplateError> {
    T::deserialize(&resource.properties)
        .map_err(|source| TemplateError::Resource { logical_id: logical_id.to_owned(), source })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawTable {
    table_name: Value,
    attribute_definitions: Vec<RawAttribute>,
    key_schema: Vec<RawKey>,
    #[serde(default)]
    global_secondary_indexes: Vec<RawIndex>,
    time_to_live_specification: Option<RawTtl>,
    #[serde(rename = "BillingMode")]
    _billing_mode: String,
    #[serde(rename = "PointInTimeRecoverySpecification")]
    _point_in_time_recovery: Value,
    #[serde(rename = "OnDemandThroughput")]
    _on_demand_throughput: Option<Value>,
    #[serde(rename = "DeletionProtectionEnabled")]
    _deletion_protection: Option<Value>,
    #[serde(rename = "SSESpecification")]
    _encryption: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawAttribute {
    attribute_name: String,
    attribute_type: KeyType,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawKey {
    attribute_name: String,
    key_type: KeyRole,
}

#[derive(Deserialize, PartialEq, Clone, Copy)]
enum KeyRole {
    #[serde(rename = "HASH")]
    Hash,
    #[serde(rename = "RANGE")]
    Range,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawIndex {
    index_name: String,
    key_schema: Vec<RawKey>,
    projection: RawProjection,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawProjection {
    projection_type: Projection,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawTtl {
    attribute_name: String,
    enabled: bool,
}

fn table(logical_id: &str, resource: &Resource, naming: &Naming<'_>) -> Result<TableSpec, TemplateError> {
    let raw: RawTable = properties(logical_id, resource)?;
    let mut indexes = Vec::new();
    for index in raw.global_secondary_indexes {
        indexes.push(IndexSpec {
            name: index.index_name,
            key: key(logical_id, &index.key_schema)?,
            projection: index.projection.projection_type,
        });
    }
    Ok(TableSpec {
        logical_id: logical_id.to_owned(),
        name: naming.name(logical_id, &raw.table_name)?,
        attributes: raw.attribute_definitions.into_iter().map(|a| (a.attribute_name, a.attribute_type)).collect(),
        key: key(logical_id, &raw.key_schema)?,
        indexes,
        ttl_attribute: raw.time_to_live_specification.filter(|ttl| ttl.enabled).map(|ttl| ttl.attribute_name),
    })
}

fn key(logical_id: &str, schema: &[RawKey]) -> Result<KeySpec, TemplateError> {
    let named = |role: KeyRole| schema.iter().filter(move |k| k.key_type == role).map(|k| k.attribute_name.clone());
    let (mut partition, mut sort) = (named(KeyRole::Hash), named(KeyRole::Range));
    match (partition.next(), partition.next(), sort.next(), sort.next()) {
        (Some(partition), None, sort, None) => Ok(KeySpec { partition, sort }),
        _ => Err(TemplateError::Unsupported {
            logical_id: logical_id.to_owned(),
            what: "a key has one HASH and at most one RANGE attribute".to_owned(),
        }),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawQueue {
    queue_name: Value,
    // CloudFormation's own defaults.
    #[serde(default = "default_visibility")]
    visibility_timeout: u32,
    #[serde(default = "default_retention")]
    message_retention_period: u32,
    #[serde(default)]
    receive_message_wait_time_seconds: u32,
    #[serde(default)]
    delay_seconds: u32,
    redrive_policy: Option<RawRedrive>,
    #[serde(rename = "SqsManagedSseEnabled")]
    _managed_encryption: Option<Value>,
}

fn default_visibility() -> u32 {
    30
}

fn default_retention() -> u32 {
    4 * 24 * 3600
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRedrive {
    dead_letter_target_arn: Value,
    max_receive_count: u32,
}

fn queue(logical_id: &str, resource: &Resource, naming: &Naming<'_>) -> Result<QueueSpec, TemplateError> {
    let raw: RawQueue = properties(logical_id, resource)?;
    let redrive = match raw.redrive_policy {
        None => None,
        Some(policy) => Some(RedriveSpec {
            dead_letter_queue: naming.queue_of_arn(logical_id, &policy.dead_letter_target_arn)?,
            max_receive_count: policy.max_receive_count,
        }),
    };
    Ok(QueueSpec {
        logical_id: logical_id.to_owned(),
        name: naming.name(logical_id, &raw.queue_name)?,
        visibility_seconds: raw.visibility_timeout,
        retention_seconds: raw.message_retention_period,
        receive_wait_seconds: raw.receive_message_wait_time_seconds,
        delay_seconds: raw.delay_seconds,
        redrive,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawBucket {
    bucket_name: Value,
    lifecycle_configuration: Option<RawLifecycle>,
    cors_configuration: Option<RawCors>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawLifecycle {
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawRule {
    #[serde(rename = "Id")]
    _id: Option<String>,
    status: String,
    #[serde(default)]
    prefix: String,
    expiration_in_days: Option<u32>,
    abort_incomplete_multipart_upload: Option<RawAbort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawAbort {
    days_after_initiation: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawCors {
    cors_rules: Vec<CorsRule>,
}

fn bucket(logical_id: &str, resource: &Resource, naming: &Naming<'_>) -> Result<BucketSpec, TemplateError> {
    let raw: RawBucket = properties(logical_id, resource)?;
    let rules = raw.lifecycle_configuration.map(|lifecycle| lifecycle.rules).unwrap_or_default();
    let active: Vec<RawRule> = rules.into_iter().filter(|rule| rule.status == "Enabled").collect();
    let abort_multipart_days = active
        .iter()
        .filter_map(|rule| rule.abort_incomplete_multipart_upload.as_ref())
        .map(|a| a.days_after_initiation)
        .min();
    Ok(BucketSpec {
        logical_id: logical_id.to_owned(),
        name: naming.name(logical_id, &raw.bucket_name)?,
        expirations: active
            .into_iter()
            .filter_map(|rule| rule.expiration_in_days.map(|days| ExpirationRule { prefix: rule.prefix, days }))
            .collect(),
        abort_multipart_days,
        cors: raw.cors_configuration.map(|cors| cors.cors_rules).unwrap_or_default(),
    })
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
                "rotoless-limits"
            ]
        );
        let jobs = all.queues.iter().find(|q| q.logical_id == "JobsQueue").unwrap();
        assert_eq!((jobs.visibility_seconds, jobs.retention_seconds, jobs.receive_wait_seconds), (120, 345_600, 20));
        let redrive = jobs.redrive.as_ref().unwrap();
        assert_eq!((redrive.dead_letter_queue.as_str(), redrive.max_receive_count), ("rotoless-jobs-dlq", 10));
        let bucket = &all.buckets[0];
        assert_eq!(bucket.name, "rotoless-media-000000000000");
        assert_eq!(bucket.abort_multipart_days, Some(1));
        let days: Vec<(&str, u32)> = bucket.expirations.iter().map(|e| (e.prefix.as_str(), e.days)).collect();
        assert_eq!(days, [("uploads/", 1), ("outputs/", 7)]);
    }

    #[test]
    fn money_and_jobs_never_expire_but_records_of_requests_do() {
        let all = Resources::of_stack("rotoless").unwrap();
        let ttl = |id: &str| all.tables.iter().find(|t| t.logical_id == id).unwrap().ttl_attribute.clone();
        for durable in ["KeysTable", "AccountsTable", "JobsTable"] {
            assert_eq!(ttl(durable), None, "{durable}");
        }
        for passing in ["IdempotencyTable", "DeliveriesTable", "LimitsTable"] {
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
