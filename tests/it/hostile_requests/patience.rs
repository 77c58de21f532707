//! Clients that take their time: they end by our limits, and nobody waits for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{GROWTH, is_refused, warmed_up};
use crate::conformance::no_worker;
use crate::conformance::wire::{self, Wire};
use crate::world::client::Client;
use crate::world::in_a_world;

/// The longest that anybody may keep a connection without getting on. Our own limits are within it: 30 s for the
/// headers, 10 s for a JSON body, 30 s for the first half of a megabyte of an upload.
const LONGEST: Duration = Duration::from_secs(45);

/// Sends a byte a second until the connection ends. Gives how long it lasted and what the last answer was.
async fn drip(client: &Client, head: &str, byte: &str) -> (Duration, Option<u16>) {
    let mut wire = Wire::connect(client).await;
    assert!(wire.send(head.as_bytes()).await);
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LONGEST, "still there after {LONGEST:?}: {head:.60}");
        match tokio::time::timeout(Duration::from_secs(1), wire.try_answer()).await {
            Ok(Some(answer)) => {
                is_refused(&answer, head);
                return (began.elapsed(), Some(answer.status));
            }
            Ok(None) => return (began.elapsed(), None),
            Err(_) => {}
        }
        if !wire.send(byte.as_bytes()).await {
            return (began.elapsed(), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drips_or_says_nothing_is_ended_and_holds_up_nobody() {
    const HALF_OPEN: usize = 1000;
    in_a_world(no_worker(), async |world| {
        let (client, growth) = warmed_up(world).await;
        let key = format!("X-Api-Key: {}", client.key);
        let form = wire::form("clip.mp4", b"");
        let (part, _) = wire::around("clip.mp4");
        let json = format!("POST /v1/jobs HTTP/1.1\r\nHost: h\r\n{key}\r\nContent-Length: 10000\r\n\r\n{{");
        let keyless = "POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n{".to_owned();
        let upload = format!(
            "POST /v1/uploads HTTP/1.1\r\nHost: h\r\n{key}\r\n{}\r\nContent-Length: 1000000\r\n\r\n{part}",
            form.content_type()
        );
        let drips = join_all([
            drip(&client, "GET /v1/jobs HTTP/1.1\r\n", "X"),
            drip(&client, "GET /v1/jobs HTTP/1.1\r\n", "X: y\r\n"),
            drip(&client, "", ""),
            drip(&client, &json, " "),
            drip(&client, &keyless, " "),
            drip(&client, &upload, "x"),
        ]);
        let mut open: Vec<Wire> = Vec::with_capacity(HALF_OPEN);
        for _ in 0..HALF_OPEN {
            let mut wire = Wire::connect(&client).await;
            wire.send(b"GET /v1/jobs HTTP/1.1\r\nHost: ").await;
            open.push(wire);
        }
        let others = async {
            // All that time everybody else is served.
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let began = Instant::now();
                client.get("/v1/credits").await.ok();
                slowest = slowest.max(began.elapsed());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            slowest
        };
        let half_open = join_all(open.iter_mut().map(|wire| async {
            // Whatever the service says on the way, it closes.
            let _ = tokio::time::timeout(LONGEST, wire.try_answer()).await.expect("half open for too long");
        }));
        let (drips, slowest, _) = tokio::join!(drips, others, half_open);
        println!("drips ended after {drips:?}; the slowest of the others took {slowest:?}");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        assert_eq!(drips.last().unwrap().1, Some(400));
        growth.check(GROWTH, "slow clients");
    })
    .await;
}
