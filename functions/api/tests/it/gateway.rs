//! On AWS an API Gateway stands before the function. Its own answers are no envelopes and cannot be made ones, so the
//! template leaves it as little to answer as there can be.

use axum::body::Body;
use rotoless_contract::api::PresignReply;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::World;

fn template() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// R3, G-35
#[test]
fn every_path_and_method_reaches_the_function_and_it_ends_before_the_gateway_does() {
    let template = template();
    let function = &template["Resources"]["ApiFunction"]["Properties"];
    let route = &function["Events"]["Public"];
    assert_eq!(route["Type"], "HttpApi");
    let properties = route["Properties"].as_object().unwrap();
    // Neither: the default route. `/{proxy+}` would leave `/` to the gateway.
    assert!(!properties.contains_key("Path") && !properties.contains_key("Method"), "{properties:?}");
    let (function, gateway) = (function["Timeout"].as_u64().unwrap(), properties["TimeoutInMillis"].as_u64().unwrap());
    // 25 s: `ANSWER` in lib.rs. 30 s is the most that an HTTP API waits.
    assert!(25 < function && function * 1000 < gateway && gateway <= 30_000, "{function} s, {gateway} ms");
}

/// A route with a method of its own hides the default route for its path, but not for other methods.
#[test]
fn no_route_but_the_workers_calls_is_taken_from_the_function() {
    let template = template();
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let Some(events) = resource["Properties"]["Events"].as_object() else { continue };
        for (event, of) in events.iter().filter(|(_, of)| of["Type"] == "HttpApi") {
            let path = of["Properties"]["Path"].as_str();
            let is_workers = path.is_some_and(|path| path.starts_with("/internal/v1/"));
            assert!(is_workers || (name == "ApiFunction" && path.is_none()), "{name}.{event}: {path:?}");
        }
    }
}

/// A first deployment knows no URL: the gateway's name is made after the function that it calls.
#[tokio::test]
async fn without_a_url_of_its_own_the_service_is_where_the_gateway_was_called() {
    let world = World::with(|host, _| host.public_base = None).await;
    let key = world.client("acme", 1).await;
    let body = json!({"filename": "clip.mp4", "content_type": "video/mp4", "size": 1000});
    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/v1/uploads",
        "rawQueryString": "",
        "headers": {"host": "forged.example", "x-api-key": key, "content-type": "application/json"},
        "requestContext": {
            "accountId": "123456789012", "apiId": "a1b2c3d4e5", "domainName": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "a1b2c3d4e5", "requestId": "r", "routeKey": "$default", "stage": "$default",
            "time": "22/Nov/2026:16:00:00 +0000", "timeEpoch": 1_795_363_200_000_i64,
            "http": {"method": "POST", "path": "/v1/uploads", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl"},
        },
        "body": body.to_string(),
        "isBase64Encoded": false,
    });
    let request = lambda_http::request::from_str(&event.to_string()).unwrap();
    let (parts, body) = request.into_parts();
    let request = axum::http::Request::from_parts(parts, Body::from(body.to_vec()));
    let answer = world.router.clone().oneshot(request).await.unwrap();
    let bytes = axum::body::to_bytes(answer.into_body(), 100_000).await.unwrap();
    let reply: PresignReply = serde_json::from_slice(&bytes).unwrap();
    let expected = format!("https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/v1/uploads/{}", reply.video_id);
    assert_eq!(reply.video_url, expected);

    // Elsewhere than behind that gateway it is the name that the client asked for.
    let reply = world
        .post("/v1/uploads")
        .key(&key)
        .header("Host", "api.example.com")
        .json(&serde_json::from_str(event["body"].as_str().unwrap()).unwrap());
    let reply: PresignReply = reply.send().await.ok();
    assert_eq!(reply.video_url, format!("https://api.example.com/v1/uploads/{}", reply.video_id));
}
