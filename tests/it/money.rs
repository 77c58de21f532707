//! Credits under many hands at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;

use crate::world::client::{Client, Reply, send};
use crate::world::media::Clip;
use crate::world::{Options, in_a_world};

/// One second of `light`, in milli-credits.
const HOLD: u64 = 750;

/// Creates a job; asks again, under the same key, where the service says that this may help.
async fn create(client: &Client, video_url: &str, key: usize) -> Reply {
    let order = json!({"video_url": video_url, "model": "light"});
    loop {
        let request =
            client.request(reqwest::Method::POST, "/v1/jobs").header("Idempotency-Key", format!("order-{key}"));
        let reply = send(request.json(&order)).await;
        if !matches!(reply.status, 409 | 429 | 503) {
            return reply;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// TS-1, G-02.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_concurrent_creates_on_a_balance_for_50_exactly_50_succeed() {
    // A machine that is slow for so many at once says 503 to some of them, and says why in its log.
    let expected_errors = &["a dependency failed error=timed out", "could not list what is due error=timed out"];
    let options = Options { no_worker: true, messages_left: true, expected_errors, ..Options::default() };
    in_a_world(options, async |world| {
        let client = world.client("acme", 37.5).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let creates = (0..200).map(|key| create(&client, &video_url, key));
        let replies: Vec<Reply> = stream::iter(creates).buffer_unordered(200).collect().await;
        let (made, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
        assert_eq!((made.len(), refused.len()), (50, 150));
        for reply in refused {
            reply.is(402, "insufficient_credits");
        }
        assert_eq!(client.milli_credits().await, [0, 50 * HOLD, 0]);

        let cancels = made.iter().map(|reply| client.cancel(reply.json["id"].as_str().unwrap()));
        let cancelled: Vec<Reply> = stream::iter(cancels).buffer_unordered(50).collect().await;
        assert!(cancelled.iter().all(|reply| reply.status == 200), "{cancelled:?}");
        assert_eq!(client.milli_credits().await, [50 * HOLD, 0, 0]);
    })
    .await;
}
