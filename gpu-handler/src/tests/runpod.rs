//! The worker on RunPod: what starts a session and what RunPod hears of it.

use std::time::{Duration, Instant};

use rotoless_contract::worker::ReportRequest;
use serde_json::{Value, json};

use super::engine::Script;
use super::platform::{KEY, Platform, Take};
use super::world::{Event, On, Served, Twist, World, quick};
use crate::ailment::Ailment;
use crate::clock::Clock;
use crate::run::RunError;
use crate::runpod::serve;
use crate::sessions::Recycle;
use crate::timing::Timing;

const FRAMES: Script = Script::Frames(3, Duration::ZERO);
const ENDLESS: Script = Script::Frames(1_000_000, Duration::from_millis(5));

/// Serves until `script` is done, then asks the worker to end; how it ended.
async fn served(
    served: Served,
    platform: &Platform,
    recycle: Recycle,
    script: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let Served { worker, ask, .. } = served;
    let platform = platform.read();
    let whole = Duration::from_secs(30);
    let (outcome, ()) = tokio::join!(tokio::time::timeout(whole, serve(worker, &platform, recycle)), async {
        script.await;
        ask.ask();
    });
    outcome.expect("the worker did not end")
}

fn pace() -> Timing {
    Timing {
        empty_take_floor: Duration::from_millis(20),
        too_many_takes: Duration::from_millis(200),
        take_cap: Duration::from_millis(700),
        take_grace: Duration::from_millis(100),
        done_retry_first: Duration::from_millis(10),
        done_retry_cap: Duration::from_millis(20),
        done_within: Duration::from_secs(5),
        ..quick()
    }
}

fn worker(world: &World, script: Script) -> Served {
    world.worker_with(script, Clock::default(), pace())
}

fn handled(world: &World) -> Value {
    json!({"output": {"handled": 1, "job": world.job.as_str(), "attempt": 1}})
}

#[tokio::test]
async fn a_job_of_runpods_is_one_session_and_one_line() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.wake("wake-1");
    platform.wake("wake-2");
    let outcome = served(worker(&world, FRAMES), &platform, Recycle::default(), platform.until("job-done", 2)).await;
    outcome.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Completed { .. }]));
    assert_eq!(platform.dones(), [handled(&world), json!({"output": {"handled": 0, "idle": true}})]);
    assert_eq!(world.count(&Event::Receive), 2, "one message a wake");
}
