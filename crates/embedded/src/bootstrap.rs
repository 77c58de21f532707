//! Makes the stored tables and queues what the template says.
//!
//! Owns: creating what is missing, and refusing a data directory whose tables have other keys or indexes: a table
//! cannot be changed that way without losing its items, here or on AWS. Does not own: the hosts.
//! Queue settings and TTLs follow the template, as a deployment would make them.

use crate::sqs::{QueueSettings, Sqs, SqsError};
use crate::template::{KeySpec, QueueSpec, TableSpec};
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Why the stored resources could not be made the template's.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("the stored table {table} has another {what} than template.yaml: {stored} instead of {wanted}")]
    TableMismatch { table: String, what: &'static str, stored: String, wanted: String },
    #[error("the embedded DynamoDB could not set up table {table}: {source}")]
    Table { table: String, source: DynoxideError },
    #[error("the embedded SQS could not set up queue {queue}: {source}")]
    Queue { queue: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Creates or checks the tables. Blocks on the disk.
pub(crate) fn tables(database: &Database, specs: &[TableSpec]) -> Result<(), BootstrapError> {
    for spec in specs {
        let failed = |source| BootstrapError::Table { table: spec.name.clone(), source };
        let name = json!({ "TableName": spec.name });
        match call(name.clone(), |r| database.describe_table(r)) {
            Err(DynoxideError::ResourceNotFoundException(_)) => {
                call(definition(spec), |r| database.create_table(r)).map_err(failed)?;
            }
            Err(other) => return Err(failed(other)),
            Ok(description) => check(spec, &description["Table"])?,
        }
        let ttl = call(name, |r| database.describe_time_to_live(r)).map_err(failed)?;
        let stored = &ttl["TimeToLiveDescription"];
        let stored = (stored["TimeToLiveStatus"] == "ENABLED").then(|| stored["AttributeName"].as_str()).flatten();
        set_ttl(database, spec, stored).map_err(failed)?;
    }
    Ok(())
}

/// Creates the queues or gives them the template's settings. `visibility_seconds` replaces that of the queues that
/// have a dead-letter queue: the ones workers receive from.
pub(crate) async fn queues(
    sqs: &Sqs,
    specs: &[QueueSpec],
    visibility_seconds: Option<u32>,
) -> Result<(), BootstrapError> {
    for spec in specs {
        let mut settings = QueueSettings::from(spec);
        if let (Some(seconds), Some(_)) = (visibility_seconds, &settings.redrive) {
            settings.visibility_seconds = seconds;
        }
        sqs.put_queue(&spec.name, settings)
            .await
            .map_err(|error: SqsError| BootstrapError::Queue { queue: spec.name.clone(), source: Box::new(error) })?;
    }
    Ok(())
}

/// Calls an operation of the database by its JSON, as the wire would.
fn call<Request: DeserializeOwned, Response: Serialize>(
    request: Value,
    operation: impl FnOnce(Request) -> dynoxide::Result<Response>,
) -> dynoxide::Result<Value> {
    let internal = |error: serde_json::Error| DynoxideError::InternalServerError(error.to_string());
    serde_json::to_value(operation(serde_json::from_value(request).map_err(internal)?)?).map_err(internal)
}

/// The table as `CreateTable` takes it.
fn definition(spec: &TableSpec) -> Value {
    let mut definition = json!({
        "TableName": spec.name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": attributes(spec),
        "KeySchema": key_schema(&spec.key),
    });
    if !spec.indexes.is_empty() {
        definition["GlobalSecondaryIndexes"] = indexes(spec);
    }
    definition
}

fn attributes(spec: &TableSpec) -> Value {
    spec.attributes
        .iter()
        .map(|(name, kind)| json!({ "AttributeName": name, "AttributeType": kind.as_str() }))
        .collect()
}

fn key_schema(key: &KeySpec) -> Value {
    let mut schema = vec![json!({ "AttributeName": key.partition, "KeyType": "HASH" })];
    schema.extend(key.sort.as_ref().map(|sort| json!({ "AttributeName": sort, "KeyType": "RANGE" })));
    Value::Array(schema)
}

fn indexes(spec: &TableSpec) -> Value {
    let index = |index: &crate::template::IndexSpec| {
        json!({
            "IndexName": index.name,
            "KeySchema": key_schema(&index.key),
            "Projection": { "ProjectionType": index.projection.as_str() },
        })
    };
    spec.indexes.iter().map(index).collect()
}

fn check(spec: &TableSpec, stored: &Value) -> Result<(), BootstrapError> {
    // Described indexes carry sizes and states besides what they were created with.
    let created = |index: &Value| {
        json!({
            "IndexName": index["IndexName"],
            "KeySchema": index["KeySchema"],
            "Projection": { "ProjectionType": index["Projection"]["ProjectionType"] },
        })
    };
    let stored_indexes = stored["GlobalSecondaryIndexes"].as_array().map(|all| all.iter().map(created).collect());
    for (what, stored, wanted) in [
        ("key", stored["KeySchema"].clone(), key_schema(&spec.key)),
        ("set of key attributes", stored["AttributeDefinitions"].clone(), attributes(spec)),
        ("set of indexes", stored_indexes.unwrap_or_else(|| json!([])), indexes(spec)),
    ] {
        if sorted(&stored) != sorted(&wanted) {
            return Err(BootstrapError::TableMismatch {
                table: spec.name.clone(),
                what,
                stored: stored.to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    Ok(())
}

fn sorted(list: &Value) -> Vec<String> {
    let mut all: Vec<String> = list.as_array().into_iter().flatten().map(Value::to_string).collect();
    all.sort_unstable();
    all
}

fn set_ttl(database: &Database, spec: &TableSpec, stored: Option<&str>) -> dynoxide::Result<()> {
    let wanted = spec.ttl_attribute.as_deref();
    if stored == wanted {
        return Ok(());
    }
    for (attribute, enabled) in [(stored, false), (wanted, true)] {
        if let Some(attribute) = attribute {
            let specification = json!({ "AttributeName": attribute, "Enabled": enabled });
            let request = json!({ "TableName": spec.name, "TimeToLiveSpecification": specification });
            call(request, |r| database.update_time_to_live(r))?;
        }
    }
    Ok(())
}
