//! From YAML to the specs: CloudFormation's shapes, and the few intrinsics the template's header allows.
//!
//! Every shape refuses fields it does not know, except a bucket's, most of which have no meaning on one machine.

use super::{
    ACCOUNT_ID, BucketSpec, CorsRule, ExpirationRule, IndexSpec, KeySpec, KeyType, Projection, QueueSpec, RedriveSpec,
    Resources, TableSpec, TemplateError,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The tables, queues and buckets of a template, named for a stack.
pub(super) fn resources(yaml: &str, stack: &str) -> Result<Resources, TemplateError> {
    let document: Document = serde_saphyr::from_str(yaml)?;
    let naming = Naming { stack, resources: &document.resources };
    let mut all = Resources { tables: Vec::new(), queues: Vec::new(), buckets: Vec::new() };
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
    #[serde(rename = "OnDemandThroughput")]
    _on_demand_throughput: Option<Value>,
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
