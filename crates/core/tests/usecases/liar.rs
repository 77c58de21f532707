//! A worker that lies: in every field that is its own to say.

use rotoless_contract::manifest::Manifest;
use rotoless_contract::media::{InputInfo, Quality};
use rotoless_contract::worker::{FailureReason, HeartbeatRequest, ProbedRequest, Refusal, ReportRequest, Stage};
use rotoless_contract::{JobStatus, MilliCredits};
use rotoless_core::lifecycle::Phase;
use rotoless_core::usecase::CallError;
use rotoless_core::view;

use super::world::{PRICE, World, input, manifest};

fn refusal<T: std::fmt::Debug>(result: Result<T, CallError>) -> Refusal {
    match result {
        Err(CallError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// G-18, G-04: a length beyond every limit holds nothing more, and ends the job.
#[tokio::test]
async fn a_length_that_no_source_may_have_ends_the_job_and_holds_nothing() {
    for duration_ms in [1_800_001, 1 << 40, u64::MAX] {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        assert_eq!(refusal(world.probed(&claim, duration_ms).await), Refusal::Terminal);
        assert_eq!(world.job(&id).state.phase, Phase::Failed { reason: FailureReason::LimitExceeded });
        assert_eq!((world.balance().held.0, world.balance().used.0), (0, 0));
    }
}

/// G-18: what cannot be true of any source is not kept.
#[tokio::test]
async fn a_measurement_that_no_source_can_have_is_refused_and_changes_nothing() {
    let lies: [fn(&mut InputInfo); 8] = [
        |i| i.codec = "h264".repeat(50_000),
        |i| i.codec = "h264\r\nx: y".to_owned(),
        |i| i.width = u32::MAX,
        |i| i.height = u32::MAX,
        |i| i.fps = f64::NAN,
        |i| i.fps = -1.0,
        |i| i.fps = 1e300,
        |i| i.duration_seconds = f64::INFINITY,
    ];
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let before = world.job(&id).version;
    for lie in lies {
        let mut told = input();
        lie(&mut told);
        let probed = ProbedRequest { input: told, duration_ms: 3000 };
        let refused = world.calls().probed(&id, claim.attempt, &probed).await;
        assert!(matches!(refused, Err(CallError::Implausible(_))), "{refused:?}");
    }
    assert_eq!(world.job(&id).version, before);
    assert_eq!(world.probed(&claim, 3000).await.unwrap().paid_seconds, 3);
}

/// G-16: numbers of every size move progress up to its end and break nothing that is shown.
#[tokio::test]
async fn frames_of_any_number_are_progress_at_most() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    for (done, total) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX - 1, u64::MAX), (5, 0), (0, 0)]
    {
        world.pass(1);
        let beat = HeartbeatRequest::at(Stage::Matte, done, total);
        assert!(!world.calls().heartbeat(&id, claim.attempt, &beat).await.unwrap().cancel);
        let job = world.job(&id);
        assert!(job.state.progress < 100);
        let now = rotoless_core::ports::Clock::now(&*world.clock);
        let _ = view::job(&job, None, &world.policy, now);
    }
    let beat = HeartbeatRequest { seq: Some(u64::MAX), ..HeartbeatRequest::at(Stage::Matte, 1, 2) };
    assert!(!world.calls().heartbeat(&id, claim.attempt, &beat).await.unwrap().cancel);
}

/// G-15, TR-9: with a manifest of which any part is not so, no job is completed and nothing is charged.
#[tokio::test]
async fn a_manifest_with_any_part_that_cannot_be_is_none() {
    type Lie = (&'static str, fn(&mut Manifest));
    let lies: [Lie; 17] = [
        ("a climbing key", |m| m.output_key = format!("outputs/{}/1/1/../../../x", m.job_id)),
        ("the key of the manifest", |m| m.output_key = format!("outputs/{}/1/manifest.json", m.job_id)),
        ("no key", |m| m.output_key = String::new()),
        ("a hidden key", |m| m.output_key = format!("outputs/{}/1/1/.webm", m.job_id)),
        ("a prefix alone", |m| m.output_key = format!("outputs/{}/1/1/", m.job_id)),
        ("an upload", |m| m.output_key = "uploads/other/vid_x".to_owned()),
        ("an attempt to come", |m| m.attempt = m.attempt.next()),
        ("upper case", |m| m.output.sha256 = m.output.sha256.to_uppercase()),
        ("no digest", |m| m.output.sha256 = String::new()),
        ("a long digest", |m| m.output.sha256.push('0')),
        ("no picture", |m| m.output.width = 0),
        ("no frames", |m| m.output.frames = 0),
        ("a fast one", |m| m.output.fps = 1e300),
        ("a slow one", |m| m.output.fps = -25.0),
        ("a size that is not so", |m| m.output.size_bytes = u64::MAX),
        ("many doubts", |m| {
            m.quality = Some(Quality { flicker: 0.0, low_confidence_frames: (0..10_000).collect() });
        }),
        ("a strange source", |m| m.input.codec = "\u{202e}".to_owned()),
    ];
    for (what, lie) in lies {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        world.upload_output(&claim);
        let mut told = manifest(&claim, 3000);
        lie(&mut told);
        let digest = world.put_manifest(&claim, &told);
        assert_eq!(refusal(world.report_completed(&claim, &digest).await), Refusal::BadManifest, "{what}");
        world.pass_lease();
        assert_eq!(world.sweep().await.adopted, 0, "{what}");
        assert_eq!((world.balance().used.0, world.job(&id).state.status()), (0, JobStatus::Pending), "{what}");
    }
}

/// G-15, TR-9: another job's manifest in the place of one's own, and its output beside it.
#[tokio::test]
async fn the_manifest_of_another_job_completes_none() {
    let world = World::new();
    let (honest, thief) = (world.created().await, world.created().await);
    let (theirs, own) = (world.claimed(&honest).await, world.claimed(&thief).await);
    world.upload_output(&theirs);
    let digest = world.put_manifest(&own, &Manifest { run: theirs.run, ..manifest(&theirs, 3000) });
    assert_eq!(refusal(world.report_completed(&own, &digest).await), Refusal::BadManifest);
    // Its own manifest around another's output.
    let world = World::new();
    let (honest, thief) = (world.created().await, world.created().await);
    let (theirs, own) = (world.claimed(&honest).await, world.claimed(&thief).await);
    world.upload_output(&theirs);
    let digest = world.put_manifest(&own, &Manifest { output_key: theirs.output.key, ..manifest(&own, 3000) });
    assert_eq!(refusal(world.report_completed(&own, &digest).await), Refusal::BadManifest);
    assert_eq!(world.balance().used.0, 0);
}

/// G-15: the digest names the manifest's bytes in one spelling.
#[tokio::test]
async fn a_digest_in_another_spelling_is_another_digest() {
    let world = World::new();
    let id = world.created().await;
    let claim = world.claimed(&id).await;
    let digest = world.finish_work(&claim);
    for spelled in [digest.to_uppercase(), format!(" {digest}"), digest[..63].to_owned(), "f".repeat(200_000)] {
        assert_eq!(refusal(world.report_completed(&claim, &spelled).await), Refusal::BadManifest);
    }
    let _ = world.report_completed(&claim, &digest).await.unwrap();
    assert_eq!(world.balance().used, PRICE);
}

/// G-04, TR-10: whatever a manifest says of its length, the hold is all there is to take.
#[tokio::test]
async fn an_output_of_any_length_costs_at_most_what_is_held() {
    for duration_ms in [0, 1, u64::MAX] {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        world.upload_output(&claim);
        let mut told = manifest(&claim, 3000);
        told.output.duration_ms = duration_ms;
        let digest = world.put_manifest(&claim, &told);
        let _ = world.report_completed(&claim, &digest).await.unwrap();
        assert!(world.balance().used <= PRICE && world.balance().used >= MilliCredits(750), "{duration_ms}");
        assert_eq!(world.balance().held.0, 0);
    }
}

/// G-15: JSON of any depth and shape in the manifest's place.
#[tokio::test]
async fn what_is_no_manifest_is_read_to_its_cap_and_is_none() {
    let deep = format!("{{\"v\":1,\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    for bytes in [deep.into_bytes(), b"[]".to_vec(), vec![0xff; 70_000], vec![b' '; 70_000], Vec::new()] {
        let world = World::new();
        let id = world.created().await;
        let claim = world.claimed(&id).await;
        world.upload_output(&claim);
        let digest = rotoless_contract::signature::sha256_hex(&bytes);
        world.store.tables().objects.insert(claim.manifest.key.clone(), bytes.into());
        assert_eq!(refusal(world.report_completed(&claim, &digest).await), Refusal::BadManifest);
        let detail = "\u{0}\n".repeat(60_000);
        let failed = ReportRequest::Failed { reason: FailureReason::InternalError, detail };
        assert_eq!(world.report(&claim, &failed).await.unwrap().status, JobStatus::Pending);
        assert_eq!(world.job(&id).state.status(), JobStatus::Pending);
    }
}
