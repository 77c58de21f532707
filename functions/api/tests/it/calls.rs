//! How often the routes that clients call most go to the database. `make bench` prints the same for all of them.

use rotoless_aws::Calls;
use serde_json::{Value, json};

use crate::world::World;

/// What the calls were, for whoever finds them too many.
fn assert_at_most(what: &str, calls: &Calls, reads: u64, writes: u64) {
    assert!(calls.reads() <= reads && calls.writes() <= writes, "{what}: {calls:?}");
    assert_eq!(calls.refused, 0, "{what}: {calls:?}");
}

fn order(video_url: &str) -> Value {
    json!({"video_url": video_url, "model": "original", "bg_type": "green", "output_format": "webm"})
}

/// Key, rate limit, promise, job, credits, usage and what the queue was told: all of it.
#[tokio::test]
async fn a_create_with_an_idempotency_key_goes_to_the_database_three_times() {
    let world = World::start().await;
    let key = world.client("anna", 1000).await;
    let order = order(&world.upload(&key).await);
    for promise in ["one", "two"] {
        let _ = world.meter.take();
        let reply = world.post("/v1/jobs").key(&key).header("Idempotency-Key", promise).json(&order).send().await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let calls = world.meter.take();
        assert_at_most("create", &calls, 0, 3);
        assert!(calls.write_units > 0.0, "the units are not answered: {calls:?}");
        assert_eq!(calls.of("SQS"), 1, "{calls:?}");
    }
}

#[tokio::test]
async fn a_poll_reads_the_database_twice_at_most_and_writes_once() {
    let world = World::start().await;
    let key = world.client("anna", 1000).await;
    let id = world.job(&key).await;
    let path = format!("/v1/jobs/{id}");
    let poll = async |status: &str, reads: u64| {
        let _ = world.meter.take();
        let reply = world.get(&path).key(&key).send().await;
        assert_eq!(reply.json["status"], status, "{}", reply.text);
        let calls = world.meter.take();
        assert_at_most(status, &calls, reads, 1);
        assert!(calls.read_units > 0.0, "the units are not answered: {calls:?}");
    };
    // The job, and the line it waits in.
    poll("pending", 2).await;
    world.complete(&id, b"the output").await;
    poll("completed", 1).await;
}
