//! The kill loop: worker and service are killed and frozen at random, while clients go on creating jobs.
//!
//! Owns: the loop, its load and what must have become of it. The oracle owns the rest. Seeded, so that the order of
//! the blows can be had again; the moments cannot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rotoless_contract::worker::FailureReason;
use rotoless_contract::{Job, JobStatus};
use serde_json::json;

use super::endpoint::{Endpoint, Manner};
use super::{JOB, LEASE, WOKEN};
use crate::world::client::Client;
use crate::world::fleet::short_leases;
use crate::world::media::Clip;
use crate::world::{Options, World, in_a_world, processes};

/// What a service says that finds itself killed in the middle of something, or its worker frozen.
pub(super) const EXPECTED_ERRORS: &[&str] =
    &["report had no success", "measurement was not accepted", WOKEN[0], WOKEN[1]];
const VANISH: Duration = Duration::from_secs(10);
/// A try of an event that was not recorded counts as lost after a minute.
const LOST_TRY: Duration = Duration::from_secs(90);
/// Jobs of the load that have not ended.
const AT_ONCE: usize = 3;

/// How much, and in which order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dose {
    pub(super) lasts: Duration,
    /// Between two blows, least and most.
    pub(super) pause_ms: (u64, u64),
    pub(super) seed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Blow {
    KillWorker,
    KillService,
    /// Past the lease.
    FreezeWorker,
    FreezeService,
    /// The endpoint fails from now on, or is well again.
    EndpointTurns,
}

/// xorshift64*: good enough to choose blows.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % below
    }

    fn blow(&mut self) -> Blow {
        match self.roll(8) {
            0..=2 => Blow::KillWorker,
            3..=4 => Blow::KillService,
            5 => Blow::FreezeWorker,
            6 => Blow::FreezeService,
            _ => Blow::EndpointTurns,
        }
    }
}

/// Strikes for as long as the dose says, then waits until every job has ended, and every event of theirs has come.
pub(super) async fn kill_loop(world: &mut World, endpoint: &Endpoint, dose: Dose) {
    eprintln!("kill loop of {:?} with SEED={}", dose.lasts, dose.seed);
    let client = world.client("soak", 10_000.0).await;
    let url = client.upload(&Clip::SMALL.make(world.scratch())).await;
    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(client.clone(), url, endpoint.url(), Arc::clone(&over)));
    let (began, mut dice) = (Instant::now(), Dice(dose.seed.max(1)));
    while began.elapsed() < dose.lasts {
        let (least, most) = dose.pause_ms;
        tokio::time::sleep(Duration::from_millis(least + dice.roll(most - least))).await;
        let blow = dice.blow();
        eprintln!("{:>6.1?} s: {blow:?}", began.elapsed().as_secs_f32());
        strike(world, endpoint, blow).await;
    }
    endpoint.behaves(Manner::Status(200));
    over.store(true, Ordering::SeqCst);
    let jobs = load.await.unwrap();
    let mut ended = BTreeMap::new();
    for id in jobs {
        let job = client.wait(&id, JOB, |job| job.status.is_terminal()).await;
        let cancelled = job.error_code == Some(FailureReason::Cancelled);
        let fair = job.status == JobStatus::Completed || cancelled || job.attempts >= 3;
        assert!(fair, "{job:#?}");
        ended.insert(id, job);
    }
    let count = |status| ended.values().filter(|job| job.status == status).count();
    eprintln!("{} jobs completed, {} did not", count(JobStatus::Completed), count(JobStatus::Failed));
    assert!(count(JobStatus::Completed) > 0);
    let total = client.get("/v1/jobs").await.ok()["total"].clone();
    assert_eq!(total, ended.len(), "one job for each key");
    all_events_come(&client, endpoint, &ended).await;
}

async fn strike(world: &mut World, endpoint: &Endpoint, blow: Blow) {
    match blow {
        Blow::KillWorker => {
            // It may be between two lives.
            if let Some(worker) = processes::worker_of(world.session()) {
                let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
            }
        }
        Blow::KillService => {
            world.kill_service(VANISH).await;
            world.up().await;
        }
        Blow::FreezeWorker => {
            let Some(worker) = processes::worker_of(world.session()) else { return };
            let _ = kill(Pid::from_raw(worker), Signal::SIGSTOP);
            tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
            let _ = kill(Pid::from_raw(worker), Signal::SIGCONT);
        }
        Blow::FreezeService => {
            world.signal(Signal::SIGSTOP);
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.signal(Signal::SIGCONT);
        }
        Blow::EndpointTurns => {
            let well = endpoint.manner() == Manner::Status(200);
            endpoint.behaves(if well { Manner::Status(500) } else { Manner::Status(200) });
        }
    }
}

/// Creates jobs, each under a key until somebody answers; cancels every seventh.
async fn load(client: Client, url: String, hook: String, over: Arc<AtomicBool>) -> Vec<String> {
    let mut jobs: Vec<String> = Vec::new();
    let mut open: Vec<String> = Vec::new();
    while !over.load(Ordering::SeqCst) {
        if open.len() < AT_ONCE {
            let key = format!("soak-{}", jobs.len());
            let order = json!({"video_url": url, "model": "light", "webhook_url": hook});
            let id = until_answered(&client, "/v1/jobs", &key, &order).await["id"].as_str().unwrap().to_owned();
            if jobs.len() % 7 == 6 {
                until_answered(&client, &format!("/v1/jobs/{id}/cancel"), &format!("{key}-cancel"), &json!({})).await;
            }
            jobs.push(id.clone());
            open.push(id);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut still = Vec::new();
        for id in open {
            let reply = client.request(reqwest::Method::GET, &format!("/v1/jobs/{id}")).send().await;
            let job = match reply {
                Ok(reply) => reply.json::<Job>().await.ok(),
                Err(_) => None,
            };
            if job.is_none_or(|job| !job.status.is_terminal()) {
                still.push(id);
            }
        }
        open = still;
    }
    jobs
}

async fn until_answered(client: &Client, path: &str, key: &str, body: &serde_json::Value) -> serde_json::Value {
    let deadline = Instant::now() + JOB;
    loop {
        let request = client.request(reqwest::Method::POST, path).header("Idempotency-Key", key).json(body);
        if let Ok(response) = request.timeout(Duration::from_secs(20)).send().await {
            let status = response.status().as_u16();
            if let Ok(body) = response.json().await {
                match status {
                    // Completed before it could be cancelled.
                    200 | 409 => return body,
                    429 | 500.. => {}
                    _ => panic!("{status}: {body}"),
                }
            }
        }
        assert!(Instant::now() < deadline, "nobody answers {path}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Each job's end was told, under one id. What failed several times is due only minutes or hours later: whoever does
/// not want to wait has it sent again.
async fn all_events_come(client: &Client, endpoint: &Endpoint, ended: &BTreeMap<String, Job>) {
    let missing = || -> Vec<&String> {
        let came = endpoint.came();
        let told = |id: &str, event: &str| came.iter().any(|came| came.job == *id && came.event == event);
        let of = |job: &Job| if job.status == JobStatus::Completed { "job.completed" } else { "job.failed" };
        ended.iter().filter(|(id, job)| !told(id, of(job))).map(|(id, _)| id).collect()
    };
    let patience = Instant::now() + LOST_TRY;
    while !missing().is_empty() && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for job in missing() {
        let path = format!("/v1/jobs/{job}/deliveries");
        for event in client.get(&path).await.ok()["items"].as_array().unwrap() {
            let id = event["delivery_id"].as_str().unwrap();
            client.post(&format!("{path}/{id}/replay"), &json!({})).await.ok();
        }
    }
    processes::eventually("every event", LOST_TRY, || missing().is_empty().then_some(())).await;
    let mut ids: BTreeMap<(String, String), String> = BTreeMap::new();
    for came in endpoint.came() {
        let known = ids.entry((came.job.clone(), came.event.clone())).or_insert_with(|| came.id.clone());
        assert_eq!(*known, came.id, "one id for {}", came.event);
    }
}

#[expect(clippy::disallowed_methods, reason = "make test-soak says how long and in which order")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// TO-6: `make test-soak`, for MINUTES, in the order of SEED.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak"]
async fn jobs_credits_and_events_survive_an_hour_of_kills() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let lasts = Duration::from_secs(60 * number("MINUTES").unwrap_or(60));
    let dose = Dose { lasts, pause_ms: (1000, 6000), seed: number("SEED").unwrap_or(now) };
    let endpoint = Endpoint::start(Manner::Status(200)).await;
    let mut args = short_leases();
    args.extend(Endpoint::allowed([&endpoint]));
    args.extend(["--reads-per-minute", "6000", "--creates-per-minute", "6000"].map(str::to_owned));
    let options = Options { args, expected_errors: EXPECTED_ERRORS, ..Options::default() };
    in_a_world(options, async |world| kill_loop(world, &endpoint, dose).await).await;
}
