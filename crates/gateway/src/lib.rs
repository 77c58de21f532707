//! API Gateway's events, answered by a router: the entry of the functions that speak HTTP.
//!
//! Owns: what becomes of an event that is no request, and of a panic beside the router. Does not own: how an event becomes
//! a request and a response an answer (`lambda_http`). Invariant: whatever comes, the answer is one that a client can
//! read, and the process goes on.
#![deny(missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use axum::Router;
use futures::FutureExt as _;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Error, LambdaEvent, Service as _, service_fn};
use rotoless_contract::{ErrorBody, ErrorCode, ErrorEnvelope};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Serves invocations until the process ends.
///
/// # Errors
/// The Runtime API does not answer as it should.
pub async fn run(router: Router) -> Result<(), Error> {
    let answer = move |event: LambdaEvent<Box<RawValue>>| answer(router.clone(), event);
    lambda_http::lambda_runtime::run(service_fn(answer)).await
}

async fn answer(router: Router, event: LambdaEvent<Box<RawValue>>) -> Result<Value, Error> {
    let LambdaEvent { payload, context } = event;
    let request_id = context.request_id.clone();
    let Ok(request) = serde_json::from_str::<LambdaRequest>(payload.get()) else {
        tracing::error!("the event is no request");
        return Ok(refusal(ErrorCode::InvalidRequest, "The event is not a request", &request_id));
    };
    // The crate that makes a request of the event panics where it cannot: a body that is not base64, a host that is none.
    let call = || Adapter::from(router).call(LambdaEvent::new(request, context));
    let Ok(call) = catch_unwind(AssertUnwindSafe(call)) else {
        return Ok(refusal(ErrorCode::InvalidRequest, "The request cannot be read", &request_id));
    };
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(Ok(answer)) => Ok(serde_json::to_value(answer)?),
        Ok(Err(never)) => match never {},
        // The routers catch their handlers' panics themselves.
        Err(_) => Ok(refusal(ErrorCode::InternalError, "Internal error", &request_id)),
    }
}

/// An answer in the service's envelope.
fn refusal(code: ErrorCode, message: &str, request_id: &str) -> Value {
    let error = ErrorBody {
        code,
        message: message.to_owned(),
        request_id: request_id.to_owned(),
        reason: None,
        param: None,
        retryable: Some(false),
        retry_after_seconds: None,
    };
    json!({
        "statusCode": code.status(),
        "headers": {"content-type": "application/json", "x-request-id": request_id, "cache-control": "no-store"},
        "body": json!(ErrorEnvelope { error }).to_string(),
        "isBase64Encoded": false,
    })
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use lambda_http::Context;

    use super::*;

    fn event(path: &str, body: &str, is_base64: bool) -> Value {
        json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
            "headers": {"host": "api.example.com", "content-type": "video/mp4"},
            "requestContext": {
                "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
                "stage": "$default", "timeEpoch": 0,
            },
            "body": body, "isBase64Encoded": is_base64,
        })
    }

    async fn sent(event: &Value) -> Value {
        let router = Router::new()
            .route("/echo", post(async |body: String| body))
            .route("/panic", post(async || -> () { panic!("a handler of the tests panics") }));
        let mut context = Context::default();
        context.request_id = "invocation".to_owned();
        let payload = RawValue::from_string(event.to_string()).unwrap();
        answer(router, LambdaEvent::new(payload, context)).await.unwrap()
    }

    fn error_of(answer: &Value) -> (u64, Value) {
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["error"]["request_id"], "invocation");
        (answer["statusCode"].as_u64().unwrap(), body["error"]["code"].clone())
    }

    #[tokio::test]
    async fn a_request_reaches_the_router_with_its_body_decoded() {
        for (body, is_base64) in [("aGVsbG8=", true), ("hello", false)] {
            let answer = sent(&event("/echo", body, is_base64)).await;
            assert_eq!((&answer["statusCode"], &answer["body"]), (&json!(200), &json!("hello")));
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_in_the_envelope() {
        let spoilt = event("/echo", "this is not base64!", true);
        for event in [json!({}), json!([]), json!("?"), json!(null), json!({"Records": []}), spoilt] {
            assert_eq!(error_of(&sent(&event).await), (400, json!("invalid_request")), "{event}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        assert_eq!(error_of(&sent(&event("/panic", "", false)).await), (500, json!("internal_error")));
    }
}
