//! Fresh links over the wire, and heartbeats that somebody listened to.

use futures::future::join_all;
use rotoless_contract::worker::{FailureReason, HeartbeatRequest, ReportRequest, Stage, attempt_path};
use serde_json::{Value, json};

use crate::world::{Call, World};

const ASKING: HeartbeatRequest =
    HeartbeatRequest { seq: Some(7), fresh_links: true, ..HeartbeatRequest::at(Stage::Upload, 75, 75) };

/// TW-9, G-39: asked for by whoever counts, not by whoever does not; and in fields that are absent otherwise.
#[tokio::test]
async fn a_heartbeat_that_asks_is_answered_with_links_that_differ_in_nothing_but_their_time() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    assert!(claim.links_last_seconds.is_some());
    let reply = world.send(&world.attempt_call(&claim, "heartbeat", &ASKING)).await;
    assert_eq!((reply.status.as_u16(), &reply.body["lease_seconds"]), (200, &json!(120)));
    let links = &reply.body["links"];
    let first = serde_json::to_value(&claim).unwrap();
    for target in ["output", "manifest"] {
        assert_eq!(links[target]["key"], first[target]["key"]);
        assert_eq!(links[target]["headers"], first[target]["headers"]);
        let without_query = |value: &Value| value["url"].as_str().unwrap().split('?').next().unwrap().to_owned();
        assert_eq!(without_query(&links[target]), without_query(&first[target]));
    }
    assert!(links.get("input").is_none(), "the source was fetched long ago");
    let silent = HeartbeatRequest { seq: Some(8), fresh_links: false, ..ASKING };
    let reply = world.send(&world.attempt_call(&claim, "heartbeat", &silent)).await;
    assert_eq!(reply.body, json!({"cancel": false, "lease_seconds": 120}));
}

/// G-19, G-18: a heartbeat that was captured and is sent again, signed as it was, at any time and by anybody: it
/// extends nothing, revives nothing, and gets no link.
#[tokio::test]
async fn a_captured_heartbeat_extends_nothing_and_gets_no_links() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let captured = world.attempt_call(&claim, "heartbeat", &ASKING);
    assert!(world.send(&captured).await.body["links"].is_object());
    let before = world.record(&id).await;
    for (seconds, left) in [(0, 120), (100, 20), (20, 0), (100, 0), (79, 0)] {
        world.pass(seconds);
        let reply = world.send(&captured).await;
        assert_eq!(reply.body, json!({"cancel": false, "lease_seconds": left}), "{seconds}");
    }
    world.pass(2);
    assert_eq!(world.send(&captured).await.refusal(), (401, "clock"));
    let after = world.record(&id).await;
    assert_eq!((after.version, after.state.phase), (before.version, before.state.phase), "the ended lease is ended");
    // The next worker is not kept out by it.
    assert_eq!(world.claim(&id).await.attempt.get(), 2);
}

/// G-19: of copies that arrive at once one is the worker's word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_copies_at_once_one_gets_the_links() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let call = world.attempt_call(&claim, "heartbeat", &ASKING);
    let replies = join_all((0..5).map(|_| world.send(&call))).await;
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.body["links"].is_object()).count(), 1, "{replies:?}");
}

/// TW-9, G-18: nor does an attempt that was overtaken, or whose job was ended, get any.
#[tokio::test]
async fn a_stale_attempt_gets_no_links() {
    let world = World::new().await;
    let id = world.job().await;
    let first = world.claim(&id).await;
    world.pass(121);
    let second = world.claim(&id).await;
    let reply = world.send(&world.attempt_call(&first, "heartbeat", &ASKING)).await;
    assert_eq!((reply.refusal(), reply.body.get("links")), ((409, "stale_attempt"), None));
    let failed = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: String::new() };
    assert_eq!(world.send(&world.attempt_call(&second, "report", &failed)).await.status, 200);
    let reply = world.send(&world.attempt_call(&second, "heartbeat", &ASKING)).await;
    assert_eq!(reply.body, json!({"cancel": true, "lease_seconds": 0}));
}

/// G-18, G-28: rightly signed nonsense, of every size, depth and kind of number, by every call.
#[tokio::test]
async fn numbers_and_shapes_that_no_worker_sends_are_refused_and_change_nothing() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let before = world.record(&id).await.version;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let beat = |field: &str, value: &str| {
        let mut fields = vec![("stage", "\"matte\""), ("frames_done", "1"), ("frames_total", "2"), ("seq", "1")];
        fields.retain(|(name, _)| *name != field);
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{},\"{field}\":{value}}}", fields.join(","))
    };
    let mut bodies = vec![("heartbeat", deep(100_000)), ("probed", deep(100_000)), ("report", deep(100_000))];
    for number in ["-1", "1.5", "1e400", "18446744073709551616", "\"1\"", "NaN", "[]"] {
        for field in ["frames_done", "frames_total", "seq"] {
            bodies.push(("heartbeat", beat(field, number)));
        }
    }
    bodies.push(("heartbeat", beat("stage", "\"MATTE\"")));
    bodies.push(("heartbeat", beat("fresh_links", "1")));
    let input = |field: &str, value: &str| {
        let known = r#"{"width":1,"height":1,"fps":25.0,"codec":"h264","has_audio":false,"duration_seconds":1.0}"#;
        let mut input: serde_json::Map<String, Value> = serde_json::from_str(known).unwrap();
        input.remove(field);
        let rest = serde_json::to_string(&input).unwrap();
        format!("{{\"duration_ms\":1000,\"input\":{},\"{field}\":{value}}}}}", rest.strip_suffix('}').unwrap())
    };
    for (field, value) in
        [("width", "-1"), ("height", "4294967296"), ("fps", "1e400"), ("fps", "-0.1"), ("fps", "null")]
    {
        bodies.push(("probed", input(field, value)));
    }
    bodies.push(("probed", input("codec", &format!("\"{}\"", "h".repeat(200_000)))));
    bodies.push(("report", r#"{"outcome":"completed"}"#.to_owned()));
    bodies.push(("report", r#"{"outcome":"refunded","manifest_sha256":""}"#.to_owned()));
    bodies.push(("report", r#"{"outcome":"failed","reason":"bored","detail":""}"#.to_owned()));
    let now = rotoless_core::ports::Clock::now(&*world.clock);
    for (what, body) in bodies {
        let secret = secrecy::ExposeSecret::expose_secret(&claim.report_secret);
        let call = Call::of_bytes(secret, attempt_path(&id, claim.attempt, what), body.clone().into_bytes(), now);
        let shown: String = body.chars().take(120).collect();
        let reply = world.send(&call).await;
        assert_eq!(reply.status, 400, "{what} {shown}: {reply:?}");
    }
    assert_eq!(world.record(&id).await.version, before);
    // Ten megabytes, signed as they are.
    let call = world.attempt_call(&claim, "report", &"x".repeat(10_000_000));
    assert_eq!(world.send(&call).await.status, 413);
    // What is nested where nobody looks is passed over as any unknown field.
    let body = format!("{{\"stage\":\"matte\",\"frames_done\":1,\"frames_total\":2,\"x\":{}}}", deep(100)).into_bytes();
    let secret = secrecy::ExposeSecret::expose_secret(&claim.report_secret);
    let call = Call::of_bytes(secret, attempt_path(&id, claim.attempt, "heartbeat"), body, now);
    assert_eq!(world.send(&call).await.status, 200);
}

/// G-20, TR-8: whichever call a wrong clock signs first, it is told so, and the same words signed rightly are taken.
#[tokio::test]
async fn every_call_signed_by_a_wrong_clock_costs_one_refusal_and_nothing_else() {
    for off in [86_400, -86_400, 360, -360] {
        let world = World::new().await;
        let id = world.job().await;
        let now = rotoless_core::ports::Clock::now(&*world.clock);
        let wrong = now.checked_add(jiff::SignedDuration::from_secs(off)).unwrap();
        let right = world.claim_call(&id).await;
        let call = Call::of_bytes(crate::world::FLEET, right.path.clone(), right.body.clone(), wrong);
        assert_eq!(world.send(&call).await.refusal(), (401, "clock"), "claim, {off} s");
        let claim = world.claim(&id).await;
        assert_eq!(claim.attempt.get(), 1, "the refused one was none");
        let secret = secrecy::ExposeSecret::expose_secret(&claim.report_secret).to_owned();
        let report = serde_json::to_value(world.finish_work(&claim).await).unwrap();
        let input = json!({"width": 1, "height": 1, "fps": 25.0, "codec": "h264", "has_audio": false,
            "duration_seconds": 1.0});
        for (what, body) in [
            ("probed", json!({"input": input, "duration_ms": 1000})),
            ("heartbeat", serde_json::to_value(&ASKING).unwrap()),
            ("report", report),
        ] {
            let version = world.record(&id).await.version;
            let path = attempt_path(&id, claim.attempt, what);
            let reply = world.send(&Call::new(&secret, path.clone(), &body, wrong)).await;
            assert_eq!(
                (reply.refusal(), world.record(&id).await.version),
                ((401, "clock"), version),
                "{what}, {off} s"
            );
            assert_eq!(world.send(&Call::new(&secret, path, &body, now)).await.status, 200, "{what}, {off} s");
        }
        assert_eq!(world.balance().await.used, crate::world::PRICE);
    }
}
