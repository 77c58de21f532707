//! The worker on RunPod: what starts a session and what RunPod hears of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aws_smithy_async::time::SharedTimeSource;
use rotoless_contract::worker::ReportRequest;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::engine::Script;
use super::platform::{KEY, Platform, Take};
use super::world::{Event, On, Served, Twist, World, quick};
use crate::ailment::Ailment;
use crate::clock::{Clock, JumpingClock};
use crate::config::Config;
use crate::run::{RunError, once, run};
use crate::runpod::{serve, serve_sleeper};
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

fn golden(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// What RunPod hears of an attempt, whatever came of it.
fn handled() -> Value {
    golden(include_str!("../../../events/runpod-done.json"))
}

/// And of a wake that found nothing to do.
fn idle() -> Value {
    golden(include_str!("../../../events/runpod-done-idle.json"))
}

#[tokio::test]
async fn a_job_of_runpods_is_one_session_and_one_line() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.wake("wake-1");
    platform.wake("wake-2");
    let outcome = served(worker(&world, FRAMES), &platform, Recycle::default(), platform.until("job-done", 2)).await;
    outcome.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Completed { .. }]));
    assert_eq!(platform.dones(), [handled(), idle()]);
}

/// Runpod-python accepts an input of any form; so do we, because a wake carries nothing.
#[tokio::test]
async fn whatever_a_jobs_input_is_it_is_a_wake() {
    let inputs =
        [json!(null), json!("text"), json!([1, 2]), json!({"v": 9, "more": {}}), json!({"prompt": "x"}), json!({})];
    let (world, platform) = (World::start().await, Platform::start().await);
    for input in &inputs {
        platform.give(Take::Job("wake", input.clone()));
    }
    platform.give(Take::Json(json!({"id": "without-input"})));
    platform.give(Take::Json(json!([{"id": "of-a-list", "input": {"v": 1}}])));
    let all = inputs.len() + 2;
    served(worker(&world, FRAMES), &platform, Recycle::default(), platform.until("job-done", all)).await.unwrap();
    let dones = platform.dones();
    assert_eq!(dones[0], handled());
    assert!(dones[1..].iter().all(|done| *done == idle()), "{dones:?}");
}

#[tokio::test]
async fn an_answer_to_a_take_that_is_no_job_starts_nothing_and_the_next_take_follows() {
    let (world, platform) = (World::start().await, Platform::start().await);
    let nothing = [
        Take::Status(204),
        Take::Status(400),
        Take::Other("application/json", ""),
        Take::Other("application/json", "{not json"),
        Take::Other("text/html", "<html>gateway</html>"),
        Take::Json(json!({"error": "no id"})),
        Take::Json(json!(7)),
        Take::Json(json!({"id": "", "input": {}})),
        Take::Status(500),
        Take::Status(429),
        Take::Hang,
    ];
    let count = nothing.len();
    nothing.into_iter().for_each(|take| platform.give(take));
    platform.wake("wake");
    let began = Instant::now();
    served(worker(&world, FRAMES), &platform, Recycle::default(), platform.until("job-done", 1)).await.unwrap();
    assert_eq!(platform.dones(), [handled()]);
    assert!(platform.calls("job-take").len() > count);
    // 429 has a rest of its own, a take that hangs ends by its cap.
    assert!(began.elapsed() >= pace().too_many_takes + pace().take_cap, "{:?}", began.elapsed());
}

/// Each take tells RunPod that there is room.
#[tokio::test]
async fn there_is_one_take_at_a_time_and_none_while_a_job_is_in_progress() {
    let (world, platform) = (World::start().await, Platform::start().await);
    (0..5).for_each(|_| platform.wake("wake"));
    let script = Script::Frames(10, Duration::from_millis(20));
    served(worker(&world, script), &platform, Recycle::default(), platform.until("job-done", 5)).await.unwrap();
    assert_eq!(platform.most_takes_at_once(), 1);
    let order: Vec<bool> = platform
        .order()
        .into_iter()
        .filter(|route| route != "ping" && route != "job-stop")
        .map(|route| route == "job-take")
        .collect();
    assert!(order.chunks_exact(2).all(|pair| pair == [true, false]), "take, done, take, done …: {order:?}");
    assert!(platform.calls("job-take").iter().all(|call| call.path.ends_with("&job_in_progress=0")));
}

/// A job that arrives in the moment in which its take is given up is RunPod's to miss.
#[tokio::test]
async fn a_job_that_comes_as_its_take_is_given_up_is_served() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.give(Take::Late(Duration::from_millis(500), "late"));
    let timing = Timing { take_cap: Duration::from_millis(200), take_grace: Duration::from_secs(5), ..pace() };
    let worker = world.worker_with(FRAMES, Clock::default(), timing);
    served(worker, &platform, Recycle::default(), platform.until("job-done", 1)).await.unwrap();
    assert_eq!(platform.dones(), [handled()]);
}

/// The wire, call by call, as the published worker has it.
#[tokio::test]
async fn every_call_has_the_form_that_runpod_knows() {
    let (world, platform) = (World::start().await, Platform::start().await);
    let job = golden(include_str!("../../../events/runpod-take.json"));
    platform.give(Take::Json(job.clone()));
    let id = job["id"].as_str().unwrap();
    // Long enough for a ping.
    let script = Script::Frames(30, Duration::from_millis(50));
    served(worker(&world, script), &platform, Recycle::default(), platform.until("job-done", 1)).await.unwrap();
    let take = &platform.calls("job-take")[0];
    assert_eq!(
        (take.method.as_str(), take.path.as_str()),
        ("GET", "/v2/ep/job-take/pod7?gpu=NVIDIA+L4&job_in_progress=0")
    );
    let stop = &platform.calls("job-stop")[0];
    assert_eq!((stop.method.as_str(), stop.path.as_str()), ("GET", "/v2/ep/job-stop/pod7?gpu=NVIDIA+L4"));
    let done = &platform.calls("job-done")[0];
    let path = format!("/v2/ep/job-done/pod7/{id}?gpu=NVIDIA+L4&isStream=false");
    assert_eq!((done.method.as_str(), done.path.as_str()), ("POST", path.as_str()));
    let headers = |name: &str| done.headers.get(name).map(String::as_str);
    assert_eq!(headers("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!((headers("charset"), headers("x-request-id")), (Some("utf-8"), Some(id)));
    let pings = platform.calls("ping");
    let paths: Vec<String> = pings.iter().map(|call| call.path.clone()).collect();
    let (idle, busy) = (
        "/v2/ep/ping/pod7?gpu=NVIDIA+L4&runpod_version=1.12.0".to_owned(),
        format!("/v2/ep/ping/pod7?gpu=NVIDIA+L4&job_id={id}&runpod_version=1.12.0"),
    );
    assert!(paths.contains(&busy) && paths.iter().all(|path| *path == idle || *path == busy), "{paths:?}");
    for call in [take, stop, done].into_iter().chain(&pings) {
        assert_eq!(call.headers.get("authorization").map(String::as_str), Some(KEY), "{}", call.path);
        assert!(call.headers["user-agent"].starts_with("rotoless-gpu-handler/"));
    }
    for call in [take, stop, &pings[0]] {
        assert_eq!(call.headers["content-type"], "application/json");
    }
}

/// RunPod's answer to an error is to repeat the job: a video that fails is none.
#[tokio::test]
async fn a_video_that_fails_is_an_ordinary_output() {
    for script in [Script::Invalid, Script::PanicOnce, Script::Spoil] {
        let (world, platform) = (World::start().await, Platform::start().await);
        platform.wake("wake");
        served(worker(&world, script), &platform, Recycle::default(), platform.until("job-done", 1)).await.unwrap();
        assert!(matches!(world.reports()[..], [ReportRequest::Failed { .. }]), "{script:?}");
        assert_eq!(platform.dones(), [handled()], "{script:?}");
    }
}

#[tokio::test]
async fn a_message_without_an_attempt_is_a_line_as_well() {
    let (world, platform) = (World::start().await, Platform::start().await);
    world.change(|shared| shared.message = Some("not json".to_owned()));
    platform.wake("wake");
    served(worker(&world, FRAMES), &platform, Recycle::default(), platform.until("job-done", 1)).await.unwrap();
    assert_eq!(platform.dones(), [json!({"output": {"handled": 0}})]);
}

/// TW-7: the job is given back and costs no attempt, and the worker takes no other.
#[tokio::test]
async fn a_worker_whose_gpu_is_lost_gives_the_job_back_and_has_itself_replaced() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.wake("wake");
    platform.wake("never taken");
    let served = served(worker(&world, Script::Ail(Ailment::DeviceLost)), &platform, Recycle::default(), async {
        platform.until("job-done", 1).await;
    });
    assert!(matches!(served.await, Err(RunError::Ailing(Ailment::DeviceLost))));
    assert!(matches!(world.reports()[..], [ReportRequest::Abandoned { .. }]), "{:?}", world.reports());
    assert_eq!(world.events().last(), Some(&Event::Release(0)));
    assert_eq!(platform.dones(), [golden(include_str!("../../../events/runpod-done-lost.json"))]);
    assert_eq!(platform.calls("job-take").len(), 1);
}

/// A video that needs more than any disk has must come to an end, so the attempt counts.
#[tokio::test]
async fn a_worker_whose_disk_is_full_fails_the_attempt_and_has_itself_replaced() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.wake("wake");
    let served = served(worker(&world, Script::Ail(Ailment::DiskFull)), &platform, Recycle::default(), async {
        platform.until("job-done", 1).await;
    });
    assert!(matches!(served.await, Err(RunError::Ailing(Ailment::DiskFull))));
    assert!(matches!(world.reports()[..], [ReportRequest::Failed { .. }]), "{:?}", world.reports());
    assert_eq!(platform.dones(), [json!({"error": "the disk of the worker is full", "stopPod": true})]);
}

/// A worker without a way to the control plane would swallow every wake that others could follow.
#[tokio::test]
async fn a_worker_that_is_cut_off_has_itself_replaced_and_one_that_hears_again_does_not() {
    let (world, platform) = (World::start().await, Platform::start().await);
    let script = async {
        for (turn, is_heard) in [false, false, true, false, false, false].into_iter().enumerate() {
            if !is_heard {
                world.twist(On::Claim, Twist::Fail(401));
            }
            world.enqueue();
            platform.wake("wake");
            platform.until("job-done", turn + 1).await;
        }
    };
    let outcome = served(worker(&world, FRAMES), &platform, Recycle::default(), script).await;
    assert!(matches!(outcome, Err(RunError::Ailing(Ailment::CutOff))), "{outcome:?} {:?}", platform.dones());
    let dones = platform.dones();
    assert_eq!(dones.last().unwrap()["stopPod"], json!(true));
    assert_eq!(dones.iter().filter(|done| done.get("error").is_some()).count(), 1, "{dones:?}");
    assert!(dones.contains(&handled()));
}

#[tokio::test]
async fn a_result_is_told_five_times_before_it_is_given_up_and_the_worker_goes_on() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.wake("heard");
    platform.answer_done(&[500, 502, 429, 404, 200]);
    platform.wake("not heard");
    platform.answer_done(&[500; 5]);
    platform.wake("the next");
    served(worker(&world, FRAMES), &platform, Recycle::default(), platform.until("job-done", 11)).await.unwrap();
    let paths = platform.calls("job-done");
    let told = |id: &str| paths.iter().filter(|call| call.path.contains(id)).count();
    assert_eq!((told("/heard?"), told("/not%20heard?"), told("/the%20next?")), (5, 5, 1));
}

/// The platform's own stop: the attempt ends, nothing is told, the message is free at once.
#[tokio::test]
async fn a_job_that_runpod_stops_is_given_back_and_never_answered() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.stop_jobs(vec!["somebody else's"]);
    world.change(|shared| shared.message = None);
    platform.wake("the one before");
    let script = async {
        platform.until("job-done", 1).await;
        world.enqueue();
        platform.wake("unwanted");
        world.until(|events| events.contains(&Event::Matte)).await;
        platform.stop_jobs(vec!["another", "unwanted"]);
        world.until(|events| matches!(events.last(), Some(Event::Release(0)))).await;
        platform.wake("next");
        platform.until("job-take", 3).await;
        // A poll that ended unanswered, between two jobs say, may have carried the word.
        assert_eq!(platform.stops_unheard(), 0);
    };
    served(worker(&world, ENDLESS), &platform, Recycle::default(), script).await.unwrap();
    assert!(matches!(world.reports()[0], ReportRequest::Abandoned { .. }), "{:?}", world.reports());
    assert!(platform.calls("job-done").iter().all(|call| !call.path.contains("unwanted")));
}

/// TW-12
#[tokio::test]
async fn a_worker_asked_to_end_takes_nothing_more_gives_back_what_it_has_and_says_so() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.wake("wake");
    platform.wake("never taken");
    let script = world.until(|events| events.contains(&Event::Matte));
    served(worker(&world, ENDLESS), &platform, Recycle::default(), script).await.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Abandoned { .. }]));
    assert_eq!(platform.dones(), [handled()]);
    assert_eq!(platform.calls("job-take").len(), 1);
}

#[tokio::test]
async fn an_idle_worker_asked_to_end_ends_at_once() {
    let (world, platform) = (World::start().await, Platform::start().await);
    let timing = Timing { take_cap: Duration::from_secs(90), ..pace() };
    let worker = world.worker_with(FRAMES, Clock::default(), timing);
    let began = Instant::now();
    served(worker, &platform, Recycle::default(), platform.until("job-take", 1)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// A memory that grows, or a process that is old: the platform is asked for a new one, with the last result.
#[tokio::test]
async fn a_worker_has_itself_replaced_after_so_many_attempts_or_so_much_growth() {
    for (recycle, count) in [
        (Recycle { attempts: Some(2), growth_bytes: None }, 2),
        // Nothing shrinks below what it was born with for long; none at all is always reached by a little.
        (Recycle { attempts: None, growth_bytes: Some(0) }, 1),
    ] {
        let (world, platform) = (World::start().await, Platform::start().await);
        (0..4).for_each(|_| platform.wake("wake"));
        let script = async {
            for done in 1..=count {
                platform.until("job-done", done).await;
                world.change(|shared| shared.report = None);
                world.enqueue();
            }
        };
        // Nobody asks it to end.
        let Served { worker, ask, .. } = worker(&world, FRAMES);
        let read = platform.read();
        let whole = tokio::time::timeout(Duration::from_secs(20), serve(worker, &read, recycle));
        let (outcome, ()) = tokio::join!(whole, script);
        outcome.expect("it did not end").unwrap();
        drop(ask);
        let dones = platform.dones();
        let recycled: Vec<bool> = dones.iter().map(|done| done.get("stopPod").is_some()).collect();
        assert_eq!(recycled.iter().filter(|recycled| **recycled).count(), 1, "{dones:?}");
        assert_eq!(recycled.last(), Some(&true), "{dones:?}");
        assert!(dones.last().unwrap().get("output").is_some());
    }
}

/// A ping that fails is repeated, and pings go on whatever the work does.
#[tokio::test]
async fn pings_are_repeated_when_runpod_is_busy_and_stop_with_the_worker() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.answer_pings(&[500, 429, 200, 503]);
    served(worker(&world, FRAMES), &platform, Recycle::default(), platform.until("ping", 5)).await.unwrap();
    let after = platform.calls("ping").len();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(platform.calls("ping").len(), after, "no ping of a worker that ended");
}

/// TW-13: whatever connection a take had, it leads nowhere after a sleep; the next one does not wait for its end.
#[tokio::test]
async fn a_worker_that_slept_drops_the_take_of_before_and_connects_anew() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.give(Take::Hang);
    platform.wake("after");
    let timing = Timing { take_cap: Duration::from_secs(90), ..pace() };
    let clock = JumpingClock::default();
    let host = SharedTimeSource::new(clock.clone());
    let Served { worker, ask, .. } = world.worker_with(FRAMES, Clock::over(host), timing);
    let (woke, naps) = watch::channel(0);
    let read = platform.read();
    let script = async {
        platform.until("job-take", 1).await;
        // Put away with its machine: the monotonic clock stood still.
        clock.0.store(120, Ordering::SeqCst);
        woke.send_replace(1);
        platform.until("job-done", 1).await;
        ask.ask();
    };
    let whole = tokio::time::timeout(Duration::from_secs(20), serve_sleeper(worker, &read, naps));
    let (outcome, ()) = tokio::join!(whole, script);
    outcome.expect("it waited for the old take").unwrap();
    assert_eq!(platform.dones(), [handled()]);
    assert_eq!(platform.most_takes_at_once(), 1);
}

/// A short sleep takes no connection away, and a take that is given up may carry a job to nobody.
#[tokio::test]
async fn a_take_outlives_a_short_sleep() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.give(Take::Late(Duration::from_millis(800), "after a nap"));
    let timing = Timing { take_cap: Duration::from_secs(90), ..pace() };
    let Served { worker, ask, .. } = world.worker_with(FRAMES, Clock::default(), timing);
    let (woke, naps) = watch::channel(0);
    let read = platform.read();
    let script = async {
        platform.until("job-take", 1).await;
        woke.send_replace(1);
        platform.until("job-done", 1).await;
        assert_eq!(platform.calls("job-take").len(), 1);
        // Nobody gave up the stop channel's poll either.
        assert_eq!(platform.stops_unheard(), 0);
        ask.ask();
    };
    let whole = tokio::time::timeout(Duration::from_secs(20), serve_sleeper(worker, &read, naps));
    let (outcome, ()) = tokio::join!(whole, script);
    outcome.expect("the job was lost").unwrap();
    assert_eq!(platform.dones(), [handled()]);
}

/// What was on its way when the process went to sleep was read by nobody yet, and is served.
#[tokio::test]
async fn a_job_that_was_handed_to_a_sleeping_worker_is_served_when_it_wakes() {
    let (world, platform) = (World::start().await, Platform::start().await);
    platform.give(Take::Late(Duration::from_millis(300), "asleep"));
    let timing = Timing { take_cap: Duration::from_secs(90), take_grace: Duration::from_secs(5), ..pace() };
    let clock = JumpingClock::default();
    let host = SharedTimeSource::new(clock.clone());
    let Served { worker, ask, .. } = world.worker_with(FRAMES, Clock::over(host), timing);
    let (woke, naps) = watch::channel(0);
    let read = platform.read();
    let script = async {
        platform.until("job-take", 1).await;
        clock.0.store(120, Ordering::SeqCst);
        woke.send_replace(1);
        platform.until("job-done", 1).await;
        ask.ask();
    };
    let (outcome, ()) = tokio::join!(serve_sleeper(worker, &read, naps), script);
    outcome.unwrap();
    assert!(platform.calls("job-done")[0].path.contains("/asleep?"));
}

/// The last words of a worker that is not fit: named, short, without an address; and no take.
#[tokio::test]
async fn a_worker_that_is_not_fit_says_so_and_takes_nothing() {
    let platform = Platform::start().await;
    let (models, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    let run_with = |name: &'static str, value: &str| {
        let mut values: BTreeMap<&str, String> = platform.environment().into_iter().collect();
        for (name, value) in [
            ("QUEUE_URL", "https://sqs.example.com/1/jobs"),
            ("CONTROL_URL", "https://api.example.com"),
            ("FLEET_KEY", "0123456789abcdef"),
            ("AWS_REGION", "eu-central-1"),
            ("MODELS_DIR", models.path().to_str().unwrap()),
            ("WORK_DIR", work.path().to_str().unwrap()),
            ("RUNPOD_MIN_DISK_PERCENT", "0"),
            ("PATH", &path),
            (name, value),
        ] {
            values.insert(name, value.to_owned());
        }
        Box::pin(run(Config::from_lookup(|name| values.get(name).cloned()).unwrap()))
    };
    assert!(matches!(run_with("RUNPOD_MIN_DISK_PERCENT", "101").await, Err(RunError::Unfit(_))));
    assert!(matches!(run_with("RUNPOD_MIN_MEMORY_GB", "1e9").await, Err(RunError::Unfit(_))));
    assert!(matches!(run_with("FFMPEG_PATH", "/nowhere").await, Err(RunError::Tools(_))));
    assert!(matches!(run_with("THREADS", "1").await, Err(RunError::Engine(_))));
    let said: Vec<String> = platform.calls("ping").into_iter().map(|call| call.path).collect();
    let start = "/v2/ep/ping/pod7?gpu=NVIDIA+L4&status=unhealthy&check=";
    for (said, check) in said.iter().zip(["disk", "memory", "ffmpeg", "engine"]) {
        assert!(said.starts_with(&format!("{start}{check}&reason=")), "{said}");
        assert!(said.ends_with("&runpod_version=1.12.0") && said.len() < 500, "{said}");
    }
    assert_eq!(said.len(), 4);
    assert!(platform.calls("job-take").is_empty());
}

/// One wake of a scaler that starts a process for each message.
#[tokio::test]
async fn a_worker_that_is_started_for_one_session_ends_after_it() {
    let world = World::start().await;
    once(&world.worker(FRAMES).worker).await.unwrap();
    assert!(matches!(world.reports()[..], [ReportRequest::Completed { .. }]));
    once(&world.worker(FRAMES).worker).await.unwrap();
    assert_eq!(world.count(&Event::Receive), 1, "the queue was empty");
    world.enqueue();
    world.twist(On::Claim, Twist::Fail(401));
    assert!(matches!(once(&world.worker(FRAMES).worker).await, Err(RunError::Session(_))));
}
