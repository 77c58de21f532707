//! Bytes that are no HTTP, or HTTP that two readers would cut differently: none is taken for two requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{GROWTH, is_refused, warmed_up};
use crate::conformance::no_worker;
use crate::conformance::wire::{Answer, Wire};
use crate::world::client::Client;
use crate::world::in_a_world;

/// Every answer on a connection after these bytes and the client's own end of sending.
async fn answers(client: &Client, bytes: &[u8]) -> Vec<Answer> {
    let mut wire = Wire::connect(client).await;
    wire.send(bytes).await;
    wire.finish().await;
    let mut all = Vec::new();
    while let Some(answer) = wire.try_answer().await {
        all.push(answer);
    }
    all
}

/// A request with a second one hidden behind it.
fn smuggled(client: &Client, headers: &str, body: &str) -> Vec<u8> {
    let hidden = format!("GET /v1/credits HTTP/1.1\r\nHost: h\r\nX-Api-Key: {}\r\n\r\n", client.key);
    let head = format!("POST /v1/jobs HTTP/1.1\r\nHost: h\r\nX-Api-Key: {}\r\n{headers}\r\n\r\n", client.key);
    format!("{head}{body}{hidden}").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_length_is_ambiguous_is_refused_with_all_that_follows() {
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        for (headers, body) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
            ("Content-Length: 0\r\nContent-Length: 60", ""),
            ("Content-Length: 60\r\nContent-Length: 0", ""),
            ("Content-Length: 0, 60", ""),
            ("Content-Length: +0", ""),
            ("Content-Length: -1", ""),
            ("Content-Length: 0x10", ""),
            ("Content-Length: 99999999999999999999999", ""),
            ("Content-Length : 0", ""),
            ("Transfer-Encoding : chunked", "0\r\n\r\n"),
            ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
            ("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"),
            ("Transfer-Encoding: chunked", "-1\r\n"),
            ("Transfer-Encoding: chunked", "5 ; x\r\n{}\r\n"),
            ("X-Folded: a\r\n Content-Length: 60", ""),
            ("X Header: a", ""),
            ("X-Nul: a\0b", ""),
            (": a", ""),
        ] {
            let what = format!("{headers:?} {body:?}");
            let answers = answers(&client, &smuggled(&client, headers, body)).await;
            assert!(answers.len() <= 1, "{what}: {answers:#?}");
            for answer in &answers {
                is_refused(answer, &what);
            }
        }
        growth.check(GROWTH, "framing");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_is_refused_and_its_connection_closed() {
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let long_line = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(300_000));
        let long_header = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(1_000_000));
        let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(10_000));
        let endless = "x".repeat(5_000_000);
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /health\r\n\r\n",
            b"GET /health HTTP/3.0\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET  /health HTTP/1.1\r\n\r\n",
            b"GET /health HTTP/1.1\nHost: h\r\r\n\n\n",
            b"G\0T /health HTTP/1.1\r\n\r\n",
            b"GET /he\0lth HTTP/1.1\r\nHost: h\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"\r\n\r\n\r\n",
            b"",
            long_line.as_bytes(),
            long_header.as_bytes(),
            many_headers.as_bytes(),
            endless.as_bytes(),
        ] {
            let what = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            for answer in answers(&client, bytes).await {
                is_refused(&answer, &what);
            }
        }
        growth.check(GROWTH, "no HTTP");
        client.get("/v1/credits").await.ok();
    })
    .await;
}
