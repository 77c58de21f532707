//! IAM before the embedded AWS: what a function's role does not allow is refused, and written down.
//!
//! Owns: which action on which resource a call is. Does not own: what a role allows ([`super::access`]). Invariant: a call
//! that is not known here is refused, so that nothing passes unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rotoless_embedded::template::Resources;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::access::{Rights, rights_of};
use crate::world::proxy::queue_signature::sign;

/// A service of the embedded AWS, as one function may use it.
pub(crate) struct Guard {
    /// Where it answers instead.
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
    server: JoinHandle<()>,
}

/// What was asked for, as action and resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) allowed: Rights,
    pub(crate) refused: Rights,
}

struct Door {
    upstream: String,
    rights: Rights,
    /// Logical ids by physical names; a table and a queue may have the same.
    tables: BTreeMap<String, String>,
    queues: BTreeMap<String, String>,
    buckets: BTreeMap<String, String>,
    secret: String,
    seen: Arc<Mutex<Seen>>,
    client: reqwest::Client,
}

impl Guard {
    /// Stands before a service: `function` may do there what its role in the template says. The embedded AWS has this
    /// secret, and its tables the names of that stack.
    pub(crate) async fn before(upstream: &str, function: &str, (stack, secret): (&str, &str)) -> Self {
        let Resources { tables, queues, buckets } = Resources::of_stack(stack).unwrap();
        let tables = tables.into_iter().map(|table| (table.name, table.logical_id));
        let queues = queues.into_iter().map(|queue| (queue.name, queue.logical_id));
        let buckets = buckets.into_iter().map(|bucket| (bucket.name, bucket.logical_id));
        let seen = Arc::default();
        let door = Door {
            upstream: upstream.trim_end_matches('/').to_owned(),
            rights: rights_of(function),
            tables: tables.collect(),
            queues: queues.collect(),
            buckets: buckets.collect(),
            secret: secret.to_owned(),
            seen: Arc::clone(&seen),
            client: reqwest::Client::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(pass).with_state(Arc::new(door));
        Self { url, seen, server: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }) }
    }

    /// What was asked for until now.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(door): State<Arc<Door>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 600_000_000).await.unwrap();
    let target = parts.headers.get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
    let asked = match &target {
        Some(target) => door.of_json(target, &serde_json::from_slice(&body).unwrap()),
        None => door.of_s3(&parts.method, &parts.uri, &body),
    };
    let refused: Rights = asked.iter().filter(|(action, on)| !allows(&door.rights, action, on)).cloned().collect();
    if !refused.is_empty() {
        eprintln!("refused: {refused:?}");
        door.seen.lock().unwrap().refused.extend(refused);
        let body = match target {
            Some(_) => {
                json!({"__type": "com.amazon.coral.service#AccessDeniedException", "message": "the role"}).to_string()
            }
            None => "<Error><Code>AccessDenied</Code><Message>the role</Message></Error>".to_owned(),
        };
        let status = if target.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
        return (status, body).into_response();
    }
    door.seen.lock().unwrap().allowed.extend(asked);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers.clone();
    if target.is_some() {
        // Database and queue insist on their own name; of the bucket's links the caller's is a part.
        let host = door.upstream.trim_start_matches("http://");
        sign((host, &door.secret), &parts, &mut headers, &body);
        headers.insert(header::HOST, host.parse().unwrap());
    }
    let request = door.client.request(parts.method, format!("{}{path}", door.upstream)).headers(headers).body(body);
    match request.send().await {
        Ok(answer) => {
            let mut response = Response::builder().status(answer.status());
            *response.headers_mut().unwrap() = answer.headers().clone();
            response.body(Body::from_stream(answer.bytes_stream())).unwrap()
        }
        Err(err) => (StatusCode::BAD_GATEWAY, err.to_string()).into_response(),
    }
}

/// Whether rights cover an action on a resource; a resource of rights may end with `*`.
fn allows(rights: &Rights, action: &str, on: &str) -> bool {
    rights.iter().any(|(granted, of)| {
        granted == action && of.strip_suffix('*').map_or(of == on, |beginning| on.starts_with(beginning))
    })
}

impl Door {
    fn named(names: &BTreeMap<String, String>, physical: &str) -> String {
        names.get(physical).cloned().unwrap_or_else(|| format!("unknown:{physical}"))
    }

    /// Calls of DynamoDB and SQS: `DynamoDB_20120810.GetItem`, `AmazonSQS.SendMessage`.
    fn of_json(&self, target: &str, body: &Value) -> Rights {
        let (service, operation) = target.split_once('.').unwrap();
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        if service == "AmazonSQS" {
            let queue = text(&body["QueueUrl"]);
            let name = queue.rsplit('/').next().unwrap_or_default();
            return Rights::from([(
                format!("sqs:{}", operation.trim_end_matches("Batch")),
                Self::named(&self.queues, name),
            )]);
        }
        let on = |action: &str, of: &Value| {
            let table = Self::named(&self.tables, &text(&of["TableName"]));
            let on = of["IndexName"].as_str().map_or_else(|| table.clone(), |index| format!("{table}/index/{index}"));
            (format!("dynamodb:{action}"), on)
        };
        match operation {
            "TransactWriteItems" => {
                let items = body["TransactItems"].as_array().unwrap().iter().flat_map(|item| item.as_object().unwrap());
                items
                    .map(|(kind, of)| match kind.as_str() {
                        "ConditionCheck" => on("ConditionCheckItem", of),
                        kind => on(&format!("{kind}Item"), of),
                    })
                    .collect()
            }
            operation => Rights::from([on(operation, body)]),
        }
    }

    /// Calls of S3, by path: `/bucket/key`.
    fn of_s3(&self, method: &Method, uri: &Uri, body: &Bytes) -> Rights {
        let (bucket, key) = uri.path()[1..].split_once('/').unwrap_or((&uri.path()[1..], ""));
        let bucket = Self::named(&self.buckets, bucket);
        let query: BTreeSet<&str> =
            uri.query().unwrap_or_default().split('&').map(|part| part.split('=').next().unwrap()).collect();
        let on = |action: &str, key: &str| {
            let on = if key.is_empty() { bucket.clone() } else { format!("{bucket}/{key}") };
            Rights::from([(format!("s3:{action}"), on)])
        };
        match *method {
            Method::POST if query.contains("delete") => {
                let keys = std::str::from_utf8(body)
                    .unwrap()
                    .split("<Key>")
                    .skip(1)
                    .filter_map(|rest| rest.split("</Key>").next());
                keys.flat_map(|key| on("DeleteObject", key)).collect()
            }
            Method::GET if key.is_empty() => on("ListBucket", ""),
            Method::GET | Method::HEAD => on("GetObject", key),
            Method::PUT | Method::POST => on("PutObject", key),
            Method::DELETE if query.contains("uploadId") => on("AbortMultipartUpload", key),
            Method::DELETE => on("DeleteObject", key),
            // A browser's question before it asks.
            Method::OPTIONS => Rights::new(),
            _ => on(&format!("{method}?"), key),
        }
    }
}

mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::{Guard, Seen};
    use crate::aws_conformance::stack::{Clients, Endpoints, SECRET_KEY, config, credentials, serve_s3};
    use rotoless_embedded::{Embedded, REGION, STACK};

    /// G-38: the guard itself; what it finds in whole journeys, `lambda` shows.
    #[tokio::test]
    async fn a_role_is_held_to_what_it_may_do() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::start(config(dir.path())).await.unwrap();
        let s3 = serve_s3(&embedded).await;
        let [database, queue, store] = [&embedded.dynamodb_url, &embedded.sqs_url, &s3];
        let database = Guard::before(database, "DeliverFunction", (STACK, SECRET_KEY)).await;
        let queue = Guard::before(queue, "SweepFunction", (STACK, SECRET_KEY)).await;
        let store = Guard::before(store, "CallbackFunction", (STACK, SECRET_KEY)).await;
        let endpoints = Endpoints {
            dynamodb: Some(database.url.clone()),
            s3: Some(store.url.clone()),
            sqs: Some(queue.url.clone()),
        };
        let Clients { dynamodb, s3, sqs } = Clients::new(endpoints, REGION, credentials());
        let names = &embedded.names;

        let get = |table: &str| {
            let key = [("job_id", "j"), ("entry", "job")]
                .map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())));
            dynamodb.get_item().table_name(table).set_key(Some(key.into())).send()
        };
        get(&names.jobs_table).await.unwrap();
        assert!(get(&names.limits_table).await.is_err());
        let Seen { allowed, refused } = database.seen();
        let one = |action: &str, on: &str| [(action.to_owned(), on.to_owned())].into();
        assert_eq!((allowed, refused), (one("dynamodb:GetItem", "JobsTable"), one("dynamodb:GetItem", "LimitsTable")));

        let url = |name: &str| name.replace(&embedded.sqs_url, &queue.url);
        sqs.send_message().queue_url(url(&names.jobs_queue_url)).message_body("x").send().await.unwrap();
        assert!(sqs.receive_message().queue_url(url(&names.jobs_queue_url)).send().await.is_err());
        assert!(sqs.send_message().queue_url(url(&names.jobs_dlq_url)).message_body("x").send().await.is_err());

        let put =
            |key: &'static str| s3.put_object().bucket(&names.media_bucket).key(key).body(b"x".to_vec().into()).send();
        put("outputs/o").await.unwrap();
        assert!(put("uploads/u").await.is_err());
        s3.get_object().bucket(&names.media_bucket).key("outputs/o").send().await.unwrap();
        assert!(s3.delete_object().bucket(&names.media_bucket).key("outputs/o").send().await.is_err());
        embedded.shutdown().await;
    }
}
