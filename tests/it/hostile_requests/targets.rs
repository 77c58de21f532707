//! Requests for things that are no path, by methods that nobody uses: each gets an envelope, or what the path means.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{is_ours, warmed_up};
use crate::conformance::no_worker;
use crate::conformance::wire::Wire;
use crate::world::in_a_world;

/// G-35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_asked_for_the_answer_is_ours() {
    in_a_world(no_worker(), async |world| {
        let (client, _) = warmed_up(world).await;
        let long = format!("GET /v1/jobs/{} HTTP/1.1", "x".repeat(10_000));
        let query = format!("GET /v1/jobs?cursor={} HTTP/1.1", "%00".repeat(3_000));
        for (line, status) in [
            ("GET //v1/jobs HTTP/1.1", 404),
            ("GET /v1//jobs HTTP/1.1", 404),
            ("GET /v1/jobs/ HTTP/1.1", 404),
            ("GET /%76%31/jobs HTTP/1.1", 404),
            ("GET /v1/jobs/%00 HTTP/1.1", 404),
            ("GET /v1/jobs/%ff%fe HTTP/1.1", 404),
            ("GET /v1/jobs/%zz HTTP/1.1", 404),
            ("GET /v1/jobs/..%2f..%2fetc HTTP/1.1", 404),
            ("GET /../../etc/passwd HTTP/1.1", 404),
            (&long, 404),
            (&query, 400),
            ("GET http://elsewhere.example/v1/nothing HTTP/1.1", 404),
            ("GET http://elsewhere.example/health HTTP/1.1", 200),
            ("GET /health HTTP/1.0", 200),
            ("OPTIONS * HTTP/1.1", 404),
            ("CONNECT elsewhere.example:443 HTTP/1.1", 404),
            ("TRACE /v1/jobs HTTP/1.1", 405),
            ("QUERY /v1/jobs HTTP/1.1", 405),
            ("LONGMETHODTHATNOBODYHASEVERHEARDOF /health HTTP/1.1", 405),
        ] {
            let mut wire = Wire::connect(&client).await;
            let head = format!("{line}\r\nHost: h\r\nX-Api-Key: {}\r\nConnection: close\r\n\r\n", client.key);
            wire.send(head.as_bytes()).await;
            let answer = wire.answer().await;
            let what = &line[..line.len().min(60)];
            is_ours(&answer, what);
            assert_eq!(answer.status, status, "{what}: {answer:?}");
        }
    })
    .await;
}
