//! The one loopback socket behind which DynamoDB and SQS answer.
//!
//! Owns: who may call. A request is answered only if it is addressed to this very socket (a page that rebinds its
//! name to 127.0.0.1 sends its own name as `Host`), comes from no web page (no `Origin`), and carries a valid
//! signature of the data directory's key over its whole body. Does not own: what the operations do.
//! Invariants: bound to 127.0.0.1 on a port the system chose, never anything else; bodies are capped in bytes and time.

use crate::dynamodb;
use crate::sigv4::{self, Credential, SignatureError};
use crate::sqs::{Sqs, SqsError, error_body};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use dynoxide::Database;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What DynamoDB accepts; an SQS batch is smaller.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Long enough for the largest body over loopback on a busy machine.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// A bound socket, not answering yet.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
}

impl Endpoint {
    pub(crate) async fn bind() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers until `stopping` turns true, then lets running requests end.
    pub(crate) fn serve(
        self,
        database: Database,
        sqs: Sqs,
        credential: Credential,
        mut stopping: watch::Receiver<bool>,
    ) -> JoinHandle<std::io::Result<()>> {
        let hosts = [self.address.to_string(), format!("localhost:{}", self.address.port())];
        let state = Arc::new(Guarded { hosts, credential, database, sqs });
        let app = Router::new().fallback(answer).with_state(state);
        tokio::spawn(async move {
            axum::serve(self.listener, app)
                .with_graceful_shutdown(async move {
                    // An error means the sender is gone, which also means stop.
                    let _ = stopping.wait_for(|stop| *stop).await;
                })
                .await
        })
    }
}

struct Guarded {
    hosts: [String; 2],
    credential: Credential,
    database: Database,
    sqs: Sqs,
}

/// Why a request did not reach a service.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this address answers only requests of this machine's own programs")]
    Foreign,
    #[error("no such operation")]
    Unknown,
    #[error("the body is longer than {MAX_BODY_BYTES} bytes or did not arrive in time")]
    Body,
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind) = match &self {
            Self::Foreign => (StatusCode::FORBIDDEN, "AccessDeniedException"),
            Self::Unknown => (StatusCode::BAD_REQUEST, "UnknownOperationException"),
            Self::Body => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::Signature(SignatureError::Missing) => (StatusCode::FORBIDDEN, "MissingAuthenticationTokenException"),
            Self::Signature(SignatureError::UnknownKey) => (StatusCode::FORBIDDEN, "UnrecognizedClientException"),
            Self::Signature(
                SignatureError::Malformed
                | SignatureError::WrongService
                | SignatureError::UnsignedHeader
                | SignatureError::Skewed
                | SignatureError::Mismatch,
            ) => (StatusCode::FORBIDDEN, "InvalidSignatureException"),
        };
        tracing::warn!(reason = %self, "the embedded AWS refused a request");
        let body = json!({ "__type": format!("com.amazon.coral.service#{kind}"), "message": self.to_string() });
        json_response(status, body.to_string())
    }
}

#[derive(Clone, Copy)]
enum Service {
    DynamoDb,
    Sqs,
}

async fn answer(State(guarded): State<Arc<Guarded>>, request: Request) -> Response {
    match admit(&guarded, request).await {
        Err(refusal) => refusal.into_response(),
        Ok((Service::DynamoDb, operation, body)) => dynamodb(guarded.database.clone(), operation, body).await,
        Ok((Service::Sqs, operation, body)) => sqs(&guarded.sqs, &operation, &body).await,
    }
}

/// The service, the operation and the body of a request that may be answered.
async fn admit(guarded: &Guarded, request: Request) -> Result<(Service, String, Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    let host = header_text(&parts, header::HOST.as_str()).ok_or(Refusal::Foreign)?;
    if !guarded.hosts.iter().any(|own| own.eq_ignore_ascii_case(host)) || parts.headers.contains_key(header::ORIGIN) {
        return Err(Refusal::Foreign);
    }
    let target = header_text(&parts, "x-amz-target").ok_or(Refusal::Unknown)?;
    let (service, operation) = match target.split_once('.') {
        Some(("DynamoDB_20120810", operation)) => (Service::DynamoDb, operation.to_owned()),
        Some(("AmazonSQS", operation)) => (Service::Sqs, operation.to_owned()),
        _ => return Err(Refusal::Unknown),
    };
    if parts.method != Method::POST {
        return Err(Refusal::Unknown);
    }
    if !parts.headers.contains_key(header::AUTHORIZATION) {
        return Err(SignatureError::Missing.into());
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES)).await;
    let Ok(Ok(body)) = body else { return Err(Refusal::Body) };
    let name = match service {
        Service::DynamoDb => "dynamodb",
        Service::Sqs => "sqs",
    };
    sigv4::verify(&guarded.credential, name, &parts, &body, Timestamp::now())?;
    Ok((service, operation, body))
}

fn header_text<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

async fn dynamodb(database: Database, operation: String, body: Bytes) -> Response {
    let answer = tokio::task::spawn_blocking(move || dynamodb::call(&database, &operation, &body)).await;
    match answer {
        Ok(answer) => {
            json_response(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), answer.body)
        }
        Err(_) => json_response(StatusCode::INTERNAL_SERVER_ERROR, "{}".to_owned()),
    }
}

async fn sqs(sqs: &Sqs, operation: &str, body: &[u8]) -> Response {
    match sqs.call(operation, body).await {
        Ok(output) => json_response(StatusCode::OK, output.to_string()),
        Err(error) => sqs_error(operation, &error),
    }
}

fn sqs_error(operation: &str, error: &SqsError) -> Response {
    let (status, fault) = if error.is_callers_fault() {
        (StatusCode::BAD_REQUEST, "Sender")
    } else {
        tracing::error!(operation, error = ?error, "the embedded SQS failed");
        (StatusCode::INTERNAL_SERVER_ERROR, "Receiver")
    };
    let mut response = json_response(status, error_body(error).to_string());
    // SDKs tell SQS errors apart by this header, not by the body.
    if let Ok(value) = HeaderValue::try_from(format!("{};{fault}", error.code())) {
        response.headers_mut().insert("x-amzn-query-error", value);
    }
    response
}

fn json_response(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if let Ok(id) = HeaderValue::try_from(crate::sqs::random_hex()) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}
