//! The HTTP API before the functions: every request becomes an event of payload format 2.0, every answer a response.
//!
//! Owns: what API Gateway does to a request and to an answer, and what it answers itself. Does not own: the functions.
//! As it does: headers in lower case and those of one name joined by commas, cookies apart, the path decoded and the query
//! as it came, a body in base64 unless its type says text; a function that fails is `{"message":"Internal Server Error"}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_smithy_types::base64;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::runtime_api::{MOST_BYTES, Outcome};
use super::sandbox::{Function, invocation_id};
use super::template::Route;

/// Greatest body that API Gateway takes.
const MOST_PAYLOAD: usize = 10 * 1024 * 1024;

/// What is routed to what.
pub(crate) struct Gateway {
    pub(crate) routes: Vec<(Route, Arc<Function>)>,
}

/// A request as an event has it.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// As it was sent: path and, behind `?`, query.
    pub(crate) target: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

impl Gateway {
    /// Answers on a port of its own, which was bound before anybody knew what answers there.
    pub(crate) fn serve(self, listener: TcpListener) -> JoinHandle<()> {
        let gateway = Arc::new(self);
        let answer = move |request: Request| {
            let gateway = Arc::clone(&gateway);
            async move { gateway.answer(request).await }
        };
        let routes = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() })
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, MOST_PAYLOAD).await else { return own(413, "Request Entity Too Large") };
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let asked = Asked { method: parts.method.as_str(), target, headers: &parts.headers, body: &body };
        let (event, function) = self.event(&asked);
        // Lambda's bound is less than the gateway's, and base64 makes more of a body.
        if event.to_string().len() > MOST_BYTES {
            return own(413, "Request Entity Too Large");
        }
        match function.invoke(&event).await {
            Outcome::Answered(answer) => response(&answer),
            Outcome::Failed(_) | Outcome::Ended => own(500, "Internal Server Error"),
            Outcome::TimedOut => own(503, "Service Unavailable"),
        }
    }

    /// The event and who gets it.
    pub(crate) fn event(&self, asked: &Asked<'_>) -> (Value, &Arc<Function>) {
        let (path, query) = asked.target.split_once('?').unwrap_or((asked.target, ""));
        let path = decoded(path);
        let (route, function) = self.route(asked.method, &path);
        let key = route.key.as_ref().map_or("$default".to_owned(), |(method, path)| format!("{method} {path}"));
        let mut headers = Map::new();
        let mut cookies = Vec::new();
        for name in asked.headers.keys() {
            let values = asked.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            if name == header::COOKIE {
                cookies.extend(values.flat_map(|value| value.split("; ").map(str::to_owned).collect::<Vec<_>>()));
            } else {
                headers.insert(name.to_string(), values.collect::<Vec<_>>().join(",").into());
            }
        }
        headers.insert("x-amzn-trace-id".to_owned(), "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".into());
        headers.insert("x-forwarded-for".to_owned(), "192.0.2.1".into());
        headers.insert("x-forwarded-port".to_owned(), "443".into());
        headers.insert("x-forwarded-proto".to_owned(), "https".into());
        let host = asked.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("api.example.com");
        let mut event = json!({
            "version": "2.0", "routeKey": key, "rawPath": path, "rawQueryString": query, "headers": headers,
            "requestContext": {
                "accountId": "123456789012", "apiId": "a1b2c3d4e5", "domainName": host, "domainPrefix": "a1b2c3d4e5",
                "http": {
                    "method": asked.method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                    "userAgent": "tests",
                },
                "requestId": invocation_id(), "routeKey": key, "stage": "$default",
                "time": "22/Nov/2026:16:03:58 +0000", "timeEpoch": 1_795_363_438_390_u64,
            },
        });
        if !cookies.is_empty() {
            event["cookies"] = cookies.into();
        }
        if !query.is_empty() {
            event["queryStringParameters"] = parameters(query);
        }
        if let Some(rest) =
            route.key.as_ref().and_then(|(_, pattern)| path.strip_prefix(pattern.trim_end_matches("{proxy+}")))
        {
            event["pathParameters"] = json!({"proxy": rest});
        }
        let text = std::str::from_utf8(asked.body).ok().filter(|_| is_text(asked.headers));
        if !asked.body.is_empty() {
            event["body"] = text.map_or_else(|| base64::encode(asked.body), str::to_owned).into();
        }
        event["isBase64Encoded"] = (!asked.body.is_empty() && text.is_none()).into();
        (event, function)
    }

    fn route(&self, method: &str, path: &str) -> (&Route, &Arc<Function>) {
        let matches = |(route, _): &&(Route, Arc<Function>)| match &route.key {
            None => false,
            Some((of, pattern)) => {
                let prefix = pattern.strip_suffix("{proxy+}").expect("a greedy route");
                (of == method || of == "ANY") && path.len() > prefix.len() && path.starts_with(prefix)
            }
        };
        let default = || self.routes.iter().find(|(route, _)| route.key.is_none());
        let (route, function) = self.routes.iter().find(matches).or_else(default).expect("a default route");
        (route, function)
    }
}

/// Multiple values of one name are joined by commas, and decoded.
fn parameters(query: &str) -> Value {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.entry(decoded(name)).or_default().push(decoded(value));
    }
    all.into_iter().map(|(name, values)| (name, Value::from(values.join(",")))).collect::<Map<_, _>>().into()
}

/// Percent-encoding taken off; what is no UTF-8 then is replaced.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Text for API Gateway: it leaves such a body as it is, and encodes every other.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["application/json", "application/javascript", "application/xml"];
    kind.starts_with("text/") || known.contains(&kind.as_str()) || kind.ends_with("+json") || kind.ends_with("+xml")
}

/// What API Gateway says in its own name.
fn own(status: u16, message: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), axum::Json(json!({"message": message}))).into_response()
}

/// A function's answer as the client sees it.
pub(crate) fn response(answer: &Value) -> Response {
    let Some(status) =
        answer["statusCode"].as_u64().and_then(|status| StatusCode::from_u16(status.try_into().ok()?).ok())
    else {
        return own(500, "Internal Server Error");
    };
    let text = answer["body"].as_str().unwrap_or_default();
    let body: Bytes = if answer["isBase64Encoded"] == true {
        base64::decode(text).expect("base64").into()
    } else {
        text.to_owned().into()
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        let name: HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
    }
    for cookie in answer["cookies"].as_array().into_iter().flatten() {
        response.headers_mut().append(header::SET_COOKIE, cookie.as_str().unwrap().parse().unwrap());
    }
    response
}
