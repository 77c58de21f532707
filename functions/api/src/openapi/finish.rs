//! What is the same for every operation: refusals, headers, security; and `required` as serde really writes it.

use std::collections::{BTreeMap, BTreeSet};

use rotoless_contract::{ErrorCode, ErrorEnvelope};
use serde_json::Value;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Paths};
use utoipa::openapi::schema::{AllOfBuilder, Components, ObjectBuilder, Ref, Schema, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ContentBuilder, Header, OpenApi, RefOr, Required, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::refusals;

const TAGS: [(&str, &str); 7] = [
    ("Uploads", "Files to work on"),
    ("Jobs", "Order a matte, follow it, fetch it"),
    ("Account", "A client's credits and use"),
    ("Public", "For anybody"),
    ("Admin", "For the operator. Without a configured token these routes do not exist"),
    ("Webhooks", "What is sent to a job's `webhook_url`"),
    ("Legacy", "Old names of some routes. The operator may turn them off, or open them to callers without a key"),
];

pub(super) fn finish(document: &mut OpenApi) {
    let mut components = document.components.take().unwrap_or_default();
    components.schemas.insert("ErrorEnvelope".to_owned(), ErrorEnvelope::schema());
    let mut schemas = Vec::new();
    ErrorEnvelope::schemas(&mut schemas);
    components.schemas.extend(schemas);
    always_written(&mut components, &document.paths);
    components.headers = headers().into_iter().map(|(name, header)| (name.to_owned(), header.into())).collect();
    components.security_schemes = BTreeMap::from([
        ("ApiKey".to_owned(), scheme("X-Api-Key", "A client's key")),
        ("AdminToken".to_owned(), scheme("X-Admin-Token", "The operator's token")),
    ]);
    for (path, item) in &mut document.paths.paths {
        for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
            finish_operation(path, operation, &mut components.responses);
        }
    }
    document.components = Some(components);
    let tag = |(name, text): (&str, &str)| TagBuilder::new().name(name).description(Some(text)).build();
    document.tags = Some(TAGS.map(tag).to_vec());
}

fn finish_operation(
    path: &str,
    operation: &mut Operation,
    shared: &mut BTreeMap<String, RefOr<utoipa::openapi::Response>>,
) {
    operation.security = security(path).map(|name| vec![SecurityRequirement::new(name, [""; 0])]);
    let id = operation.operation_id.clone().unwrap_or_default();
    // An operation of which nothing is said refuses nothing: the first refusal that a test sees tells.
    let codes = refusals::of(&id).unwrap_or_default();
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.extend(headers_of(path, &id));
        }
    }
    for group in codes.chunk_by(|a, b| a.status() == b.status()) {
        let (name, status) = (name_of(group), group[0].status());
        shared.entry(name.clone()).or_insert_with(|| refusal(group).into());
        let reference = utoipa::openapi::Ref::from_response_name(name);
        operation.responses.responses.insert(status.to_string(), RefOr::Ref(reference));
    }
    if id == "startJob"
        && let Some(RefOr::T(body)) = &mut operation.request_body
    {
        // Nothing at all counts as `{}`.
        body.required = Some(Required::False);
    }
}

/// Which key opens a path.
fn security(path: &str) -> Option<&'static str> {
    if path.starts_with("/v1/admin/") {
        Some("AdminToken")
    } else {
        let is_old = ["/api/upload", "/api/process", "/api/status/{id}"].contains(&path);
        (is_old || path.starts_with("/v1/")).then_some("ApiKey")
    }
}

fn scheme(header: &str, description: &str) -> RefOr<SecurityScheme> {
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(header, description))).into()
}

fn headers() -> [(&'static str, Header); 6] {
    let header = |kind: Type, text: &str| {
        HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(kind))).description(Some(text)).build()
    };
    [
        ("X-Request-Id", header(Type::String, "Names this answer to support")),
        ("Retry-After", header(Type::Integer, "Seconds after which to try again")),
        ("X-RateLimit-Limit", header(Type::Integer, "Requests that the key's bucket holds")),
        ("X-RateLimit-Remaining", header(Type::Integer, "Requests that it has left")),
        ("X-RateLimit-Reset", header(Type::Integer, "Unix seconds when it is full again")),
        ("Idempotency-Replayed", header(Type::String, "`true` where this is the answer of an earlier request")),
    ]
}

const RATE: [&str; 3] = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

fn header_ref(name: &str) -> (String, RefOr<Header>) {
    (name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))))
}

/// Of a success.
fn headers_of(path: &str, operation: &str) -> Vec<(String, RefOr<Header>)> {
    let mut headers = vec![header_ref("X-Request-Id")];
    if security(path).is_some() {
        headers.extend(RATE.map(header_ref));
    }
    if operation == "createJob" || operation == "legacyProcess" {
        headers.push(header_ref("Idempotency-Replayed"));
    }
    headers
}

/// One error status with some codes: `InvalidRequest`, `MissingApiKeyOrInvalidApiKey`.
fn name_of(codes: &[ErrorCode]) -> String {
    codes.iter().map(|code| format!("{code:?}")).collect::<Vec<_>>().join("Or")
}

fn refusal(codes: &[ErrorCode]) -> utoipa::openapi::Response {
    let names: Vec<Value> = codes.iter().filter_map(|code| serde_json::to_value(code).ok()).collect();
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names.clone()));
    let error = ObjectBuilder::new().property("code", code);
    let narrowed = ObjectBuilder::new().property("error", error);
    let schema = AllOfBuilder::new().item(Ref::from_schema_name("ErrorEnvelope")).item(narrowed);
    let words = names.iter().filter_map(|name| name.as_str()).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    let mut response = ResponseBuilder::new()
        .description(words.join(" or "))
        .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
        .build();
    response.headers.extend([header_ref("X-Request-Id"), header_ref("Retry-After")]);
    response.headers.extend(RATE.map(header_ref));
    response
}

/// In an answer, serde writes every field but those it skips when absent, which then are never null: so what may be
/// null is always there. In a request a field that may be null may be left out as well.
fn always_written(components: &mut Components, paths: &Paths) {
    let requests = of_requests(components, paths);
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(schema) = schema
            && !requests.contains(name)
        {
            require_nullable(schema);
        }
    }
}

fn require_nullable(schema: &mut Schema) {
    if let Schema::Object(object) = schema {
        let nullable = object.properties.iter().filter(|(_, property)| may_be_null(property)).map(|(name, _)| name);
        let missing: Vec<String> = nullable.filter(|name| !object.required.contains(name)).cloned().collect();
        object.required.extend(missing);
    } else if let Schema::AllOf(all) = schema {
        for item in &mut all.items {
            if let RefOr::T(item) = item {
                require_nullable(item);
            }
        }
    }
}

fn may_be_null(property: &RefOr<Schema>) -> bool {
    let has_null = |kind: &SchemaType| match kind {
        SchemaType::Type(kind) => *kind == Type::Null,
        SchemaType::Array(kinds) => kinds.contains(&Type::Null),
        SchemaType::AnyValue => false,
    };
    let RefOr::T(schema) = property else { return false };
    if let Schema::OneOf(one) = schema {
        return one.items.iter().any(may_be_null);
    }
    if let Schema::Array(array) = schema {
        return has_null(&array.schema_type);
    }
    matches!(schema, Schema::Object(object) if has_null(&object.schema_type))
}

/// Names of the schemas that request bodies are made of.
fn of_requests(components: &Components, paths: &Paths) -> BTreeSet<String> {
    let bodies = paths.paths.values().flat_map(|item| [&item.get, &item.post, &item.delete]).flatten();
    let mut names = BTreeSet::new();
    let mut open: Vec<String> =
        bodies.filter_map(|operation| operation.request_body.as_ref()).flat_map(references).collect();
    while let Some(name) = open.pop() {
        if let Some(schema) = components.schemas.get(&name)
            && names.insert(name)
        {
            open.extend(references(schema));
        }
    }
    names
}

/// Names of the schemas that something refers to.
fn references(part: &impl serde::Serialize) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let name =
                    fields.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/components/schemas/"));
                found.extend(name.map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::to_value(part) {
        collect(&value, &mut found);
    }
    found
}
