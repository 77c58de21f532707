//! Who is believed: the holder of the attempt's own secret, about this request, for five minutes.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use rotoless_contract::Attempt;
use rotoless_contract::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, report_secret};
use rotoless_contract::worker::{
    ClaimRequest, FailureReason, HeartbeatRequest, MAX_WORKER_BODY_BYTES, ReportRequest, Stage, attempt_path,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::world::{Call, FLEET, World};

const BEAT: HeartbeatRequest = HeartbeatRequest::at(Stage::Matte, 1, 10);

/// G-18, TR-4: each bit of body, timestamp and signature, and the path of everybody else.
#[tokio::test]
async fn a_call_with_any_bit_changed_is_refused_before_anything_is_looked_up() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let before = world.record(&id).await.version;
    let call = world.attempt_call(&claim, "heartbeat", &BEAT);
    let _ = world.meter.take();
    let mut sent = 0;
    let mut refused = async |changed: Call| {
        // HTTP carries no control characters in a header, and no others than ASCII in a path.
        let Some(request) = changed.request() else { return };
        sent += 1;
        let what = format!("{} {} {}", changed.path, changed.timestamp, changed.signature);
        let reply = world.ask(&world.router, request).await;
        assert!(matches!(reply.status.as_u16(), 401 | 404 | 405), "{what}: {reply:?}");
    };
    let flipped = |text: &str, at: usize, bit: u8| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        String::from_utf8(bytes).ok()
    };
    for bit in 0..8 {
        for at in 0..call.body.len() {
            let mut body = call.body.clone();
            body[at] ^= 1 << bit;
            refused(Call { body, ..call.clone() }).await;
        }
        for at in 0..call.timestamp.len() {
            let Some(timestamp) = flipped(&call.timestamp, at, bit) else { continue };
            refused(Call { timestamp, ..call.clone() }).await;
        }
        for at in 0..call.signature.len() {
            let Some(signature) = flipped(&call.signature, at, bit) else { continue };
            refused(Call { signature, ..call.clone() }).await;
        }
        for at in 0..call.path.len() {
            let Some(path) = flipped(&call.path, at, bit).filter(|path| path.starts_with('/')) else { continue };
            refused(Call { path, ..call.clone() }).await;
        }
    }
    assert!(sent > 1000, "{sent}");
    let calls = world.meter.take();
    assert_eq!((calls.reads(), calls.writes()), (0, 0), "nothing is looked up for a stranger");
    assert_eq!(world.record(&id).await.version, before);
    assert_eq!(world.send(&call).await.status, 200, "unchanged it is accepted");
}

/// G-18, G-19, TR-5: a call that somebody listened to.
#[tokio::test]
async fn a_captured_call_opens_nothing_else_and_nothing_later() {
    let world = World::new().await;
    let (id, other) = (world.job().await, world.job().await);
    let (claim, others) = (world.claim(&id).await, world.claim(&other).await);
    let call = world.attempt_call(&claim, "heartbeat", &BEAT);
    for path in [
        attempt_path(&other, others.attempt, "heartbeat"),
        attempt_path(&id, Attempt::FIRST.next(), "heartbeat"),
        attempt_path(&id, claim.attempt, "report"),
        attempt_path(&id, claim.attempt, "probed"),
        format!("/internal/v1/jobs/{id}/claim"),
    ] {
        assert_eq!(
            world.send(&Call { path: path.clone(), ..call.clone() }).await.refusal(),
            (401, "mismatch"),
            "{path}"
        );
    }
    world.pass(299);
    assert_eq!(world.send(&call).await.status, 200, "within five minutes it is the worker's word once more");
    world.pass(2);
    assert_eq!(world.send(&call).await.refusal(), (401, "clock"));
    world.pass(3600);
    let version = world.record(&id).await.version;
    assert_eq!(world.send(&call).await.refusal(), (401, "clock"));
    assert_eq!(world.record(&id).await.version, version);
}

/// G-18, TR-6: each secret opens what it is for.
#[tokio::test]
async fn neither_an_older_attempt_nor_the_fleet_key_alone_can_speak_for_an_attempt() {
    let world = World::new().await;
    let id = world.job().await;
    let first = world.claim(&id).await;
    world.pass(121);
    let second = world.claim(&id).await;
    assert_eq!(second.attempt.get(), 2);
    let failed = ReportRequest::Failed { reason: FailureReason::InvalidMedia, detail: String::new() };
    let now = rotoless_core::ports::Clock::now(&*world.clock);
    let path = || attempt_path(&id, second.attempt, "report");
    for secret in [first.report_secret.expose_secret(), FLEET, "", "the master"] {
        assert_eq!(world.send(&Call::new(secret, path(), &failed, now)).await.refusal(), (401, "mismatch"));
    }
    // The old attempt may speak for itself, and is told that it is over.
    let own = world.attempt_call(&first, "report", &failed);
    assert_eq!(world.send(&own).await.refusal(), (409, "stale_attempt"));
    // The fleet key without the message's token.
    let claim = ClaimRequest {
        v: 1,
        run: second.run,
        claim_token: SecretString::from("0".repeat(64)),
        worker_id: "thief".to_owned(),
        provider: "cpu".to_owned(),
    };
    let call = Call::new(FLEET, format!("/internal/v1/jobs/{id}/claim"), &claim, now);
    assert_eq!(world.send(&call).await.refusal(), (401, "claim_token"));
    // The token without the fleet key.
    let claim = world.claim_call(&id).await;
    let stolen = Call { signature: "v1=".to_owned() + &"0".repeat(64), ..claim };
    assert_eq!(world.send(&stolen).await.refusal(), (401, "mismatch"));
    assert_eq!(world.record(&id).await.state.attempts, 2);
}

/// G-18, G-28, TR-7: what is no signature at all, however much of it there is.
#[tokio::test]
async fn what_is_not_one_signature_of_our_form_is_refused_quickly() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let call = world.attempt_call(&claim, "heartbeat", &BEAT);
    let digits = call.signature.strip_prefix("v1=").unwrap().to_owned();
    let raw = hex::decode(&digits).unwrap();
    let standard = base64::engine::general_purpose::STANDARD.encode(&raw);
    let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&raw);
    let text = |text: &str| text.to_owned();
    let began = Instant::now();
    let _ = world.meter.take();
    for signature in [
        text(""),
        text("v1="),
        text("v1"),
        digits.clone(),
        format!("v0={digits}"),
        format!("v2={digits}"),
        format!("V1={digits}"),
        format!("v1={}", digits.to_uppercase()),
        format!("v1={standard}"),
        format!("v1,{standard}"),
        format!("v1={url_safe}"),
        format!(" v1={digits} {digits}"),
        format!("v1={digits},v1={digits}"),
        format!("v1={digits}\u{0}"),
        format!("v1=0x{}", &digits[2..]),
        "v1=".to_owned() + &"0".repeat(1 << 20),
        [call.signature.as_str(); 10_000].join(" "),
    ] {
        let shown: String = signature.chars().take(80).collect();
        let Some(request) = (Call { signature, ..call.clone() }).request() else { continue };
        let reply = world.ask(&world.router, request).await;
        assert_eq!(reply.status, 401, "{shown}: {reply:?}");
    }
    for timestamp in
        ["", "now", "1e9", "0x10", "-1", "9223372036854775807", "-9223372036854775808", "99999999999999999999"]
    {
        let reply = world.send(&Call { timestamp: text(timestamp), ..call.clone() }).await;
        assert_eq!(reply.status, 401, "{timestamp}: {reply:?}");
    }
    for (timestamps, signatures) in [(0, 0), (0, 1), (1, 0), (2, 1), (1, 2), (1, 10_000)] {
        let mut request = Request::post(call.path.as_str());
        for _ in 0..timestamps {
            request = request.header(TIMESTAMP_HEADER, &call.timestamp);
        }
        for _ in 0..signatures {
            request = request.header(SIGNATURE_HEADER, &call.signature);
        }
        let reply = world.ask(&world.router, request.body(Body::from(call.body.clone())).unwrap()).await;
        assert_eq!(reply.refusal(), (401, "malformed"), "{timestamps} timestamps, {signatures} signatures");
    }
    let calls = world.meter.take();
    assert_eq!((calls.reads(), calls.writes()), (0, 0), "nothing is looked up for a stranger");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// G-20, TR-8: the tolerance to the second, the reason that makes a worker set its clock, and then success.
#[tokio::test]
async fn a_clock_that_is_off_is_told_so_and_changes_nothing() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let now = rotoless_core::ports::Clock::now(&*world.clock);
    let beat = async |off: i64| {
        let at = now.checked_add(jiff::SignedDuration::from_secs(off)).unwrap();
        let path = attempt_path(&id, claim.attempt, "heartbeat");
        world.send(&Call::new(claim.report_secret.expose_secret(), path, &BEAT, at)).await
    };
    let before = world.record(&id).await.version;
    for off in [301, -301, 360, -360, 86_400, -86_400, 315_360_000] {
        assert_eq!(beat(off).await.refusal(), (401, "clock"), "{off} s");
    }
    assert_eq!(world.record(&id).await.version, before);
    for off in [300, -300, 0] {
        assert_eq!(beat(off).await.status, 200, "{off} s");
    }
}

/// G-18, TR-11: an attempt ends under the master that it began under, as long as that one is accepted.
#[tokio::test]
async fn a_master_that_is_rotated_in_the_middle_of_an_attempt_ends_none() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let call = world.attempt_call(&claim, "heartbeat", &BEAT);
    let during = world.router_with(&["the next master", "the master"]);
    assert_eq!(world.ask(&during, call.request().unwrap()).await.status, 200);
    let after = world.router_with(&["the next master"]);
    assert_eq!(world.ask(&after, call.request().unwrap()).await.refusal(), (401, "mismatch"));
    // New attempts are the new master's.
    world.pass(121);
    let claimed = world.ask(&during, world.claim_call(&id).await.request().unwrap()).await;
    let expected = report_secret(&SecretString::from("the next master"), &id, Attempt::FIRST.next());
    assert_eq!(claimed.body["report_secret"], expected.expose_secret());
}

/// G-18, G-28: rightly signed and wrong all the same.
#[tokio::test]
async fn a_signed_call_is_bounded_and_read_strictly() {
    let world = World::new().await;
    let id = world.job().await;
    let claim = world.claim(&id).await;
    let large = "x".repeat(MAX_WORKER_BODY_BYTES);
    assert_eq!(world.send(&world.attempt_call(&claim, "heartbeat", &large)).await.status, 413);
    for nonsense in [serde_json::json!(null), serde_json::json!([]), serde_json::json!({"stage": "dream"})] {
        let reply = world.send(&world.attempt_call(&claim, "heartbeat", &nonsense)).await;
        assert_eq!(reply.status, 400, "{nonsense}: {reply:?}");
    }
    for path in ["/", "/internal/v1/jobs", "/internal/v1/jobs/x/claim", "/v1/jobs", "/internal/v1/jobs/../../v1/jobs"] {
        let call = Call { path: path.to_owned(), ..world.attempt_call(&claim, "heartbeat", &BEAT) };
        assert_eq!(world.send(&call).await.status, 404, "{path}");
    }
    let get = Request::get(attempt_path(&id, claim.attempt, "heartbeat")).body(Body::empty()).unwrap();
    assert_eq!(world.ask(&world.router, get).await.status, 405);
}
