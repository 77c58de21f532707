//! What becomes of messages that lead to no attempt, and of the loop around sessions.

use std::time::Duration;

use rotoless_contract::worker::Refusal;

use super::engine::Script;
use super::world::{Event, On, Twist, World, quick};
use crate::clock::Clock;
use crate::run::serve;
use crate::session::{SessionEnd, SessionError};
use crate::timing::Timing;

const FRAMES: Script = Script::Frames(3, Duration::ZERO);

/// K5, K6: a message that comes again after its job ended is cleaned up.
#[tokio::test]
async fn a_message_whose_job_or_run_is_over_is_deleted() {
    for refusal in [Refusal::Terminal, Refusal::Superseded] {
        let world = World::start().await;
        world.twist(On::Claim, Twist::Refuse(refusal));
        assert_eq!(world.worker(FRAMES).worker.session().await.unwrap(), SessionEnd::Passed);
        assert_eq!(world.events(), [Event::Receive, Event::Claim, Event::Delete]);
    }
}

/// G-10
#[tokio::test]
async fn a_leased_job_is_left_until_its_lease_ends() {
    let world = World::start().await;
    world.twist(On::Claim, Twist::Refuse(Refusal::Leased));
    assert_eq!(world.worker(FRAMES).worker.session().await.unwrap(), SessionEnd::Passed);
    assert_eq!(world.events(), [Event::Receive, Event::Claim, Event::Release(17)]);
}

/// TW-5, G-39: what cannot be understood is for the dead letter queue, and for people.
#[tokio::test]
async fn a_message_that_cannot_be_understood_is_left_for_the_dead_letter_queue() {
    let long = format!("{{\"v\":1,\"x\":\"{}\"}}", "x".repeat(100_000));
    for body in ["", "{}", "not json", r#"{"v":2,"anything":true}"#, r#"{"v":1,"job_id":"../x"}"#, &long] {
        let world = World::start().await;
        world.change(|shared| shared.message = Some(body.to_owned()));
        let served = world.worker(FRAMES);
        assert_eq!(served.worker.session().await.unwrap(), SessionEnd::Passed);
        assert_eq!(world.log.all(), [Event::Receive], "{body}");
        // The next one is served as if it had not been there.
        world.enqueue();
        assert!(matches!(served.worker.session().await.unwrap(), SessionEnd::Handled { .. }), "{body}");
        assert_eq!(world.events().last(), Some(&Event::Delete), "{body}");
    }
}

#[tokio::test]
async fn an_unknown_job_is_left_for_the_dead_letter_queue() {
    let world = World::start().await;
    world.twist(On::Claim, Twist::Fail(404));
    assert_eq!(world.worker(FRAMES).worker.session().await.unwrap(), SessionEnd::Passed);
    assert_eq!(world.log.all(), [Event::Receive, Event::Claim]);
}

#[tokio::test]
async fn a_claim_is_repeated_while_the_control_plane_is_away() {
    let world = World::start().await;
    for status in [500, 503, 429] {
        world.twist(On::Claim, Twist::Fail(status));
    }
    world.worker(FRAMES).worker.session().await.unwrap();
    assert_eq!(world.count(&Event::Claim), 4);
    assert_eq!(world.events().last(), Some(&Event::Delete));
}

/// A claim answered after the message became somebody else's would start a second attempt.
#[tokio::test]
async fn a_claim_is_given_up_before_the_message_becomes_visible() {
    let world = World::start().await;
    for _ in 0..10_000 {
        world.twist(On::Claim, Twist::Fail(503));
    }
    let timing = Timing { visibility: Duration::from_secs(4), call: Duration::from_secs(2), ..quick() };
    let error = world.worker_with(FRAMES, Clock::default(), timing).worker.session().await.unwrap_err();
    assert!(matches!(error, SessionError::Claim(_)));
    assert!(world.count(&Event::Claim) > 1);
    assert_eq!(world.change(|shared| shared.late_claims), 0);
    assert_eq!(world.count(&Event::Delete), 0);
}

/// G-17
#[tokio::test]
async fn the_loop_survives_failed_sessions_and_ends_when_asked() {
    let world = World::start().await;
    world.twist(On::Claim, Twist::Fail(401));
    let timing = Timing { visibility: Duration::from_secs(1), ..quick() };
    let served = world.worker_with(FRAMES, Clock::default(), timing);
    let (outcome, ()) = tokio::join!(serve(&served.worker), async {
        world.until(|events| events.contains(&Event::Delete)).await;
        served.ask.ask();
    });
    outcome.unwrap();
    assert_eq!(world.count(&Event::Receive), 2, "refused once, served when it came again");
}
