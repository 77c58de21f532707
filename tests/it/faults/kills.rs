//! Workers die at each of their kill points, and the jobs do not notice but by the time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{JOB, bare, orders, paid};
use crate::world::fleet::Fleet;
use crate::world::proxy::{Exchange, Fault, Moment, Proxy, Rule};
use crate::world::{Options, in_a_world};

/// Where a worker dies, and what must have happened when its job is completed.
struct Point {
    name: &'static str,
    exchange: Exchange,
    moment: Moment,
    /// Attempts that were begun.
    attempts: u32,
    /// Times that the source was fetched and the output sent: how often the work was done.
    worked: [usize; 2],
}

/// Between the heartbeats of a job of a second there is no telling where its inference is: K2 is in `crashes`.
const POINTS: [Point; 7] = [
    Point { name: "K0", exchange: Exchange::Receive, moment: Moment::Between, attempts: 1, worked: [1, 1] },
    Point { name: "K1", exchange: Exchange::Claim, moment: Moment::Between, attempts: 2, worked: [1, 1] },
    Point { name: "before K3", exchange: Exchange::PutMatte, moment: Moment::Between, attempts: 2, worked: [2, 1] },
    Point { name: "K3", exchange: Exchange::PutManifest, moment: Moment::Before, attempts: 2, worked: [2, 2] },
    Point { name: "K4", exchange: Exchange::Report, moment: Moment::Before, attempts: 1, worked: [1, 1] },
    Point { name: "K5", exchange: Exchange::Report, moment: Moment::Between, attempts: 1, worked: [1, 1] },
    Point { name: "K6", exchange: Exchange::Delete, moment: Moment::Before, attempts: 1, worked: [1, 1] },
];

fn worked(proxy: &Proxy, job: &str) -> [usize; 2] {
    [Exchange::GetSource, Exchange::PutOutput].map(|exchange| proxy.answers(job, exchange).len())
}

/// TW-1, G-11, K0, K1, K3–K7. K4 and K7: what an earlier attempt finished is adopted, by whoever looks first; nobody
/// fetches the source again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_at_any_exchange_delays_its_job_and_neither_loses_nor_doubles_it() {
    let options = Options { expected_errors: &["report had no success"], ..bare() };
    in_a_world(options, async |world| {
        let (client, jobs) = orders(world, POINTS.len() + 1).await;
        let mut fleet = Fleet::of(world);
        let mut traps = Vec::new();
        for (point, job) in POINTS.iter().zip(&jobs) {
            traps.push(fleet.proxy.set(Rule::once(job, point.exchange, Fault::Kill(point.moment))));
        }
        // K7: two attempts fail, the third one dies when all but its report is done.
        let last = jobs.last().unwrap();
        for attempt in [1, 2] {
            let refuse = Rule::once(last, Exchange::PutOutput, Fault::Status(503)).of_attempt(attempt).times(4);
            traps.push(fleet.proxy.set(refuse));
        }
        let k7 = Rule::once(last, Exchange::Report, Fault::Kill(Moment::Before)).of_attempt(3);
        traps.push(fleet.proxy.set(k7));
        for _ in 0..3 {
            fleet.hire(world).await;
        }
        for (point, job) in POINTS.iter().zip(&jobs) {
            let done = client.completed(job, JOB).await;
            let found = (done.attempts, worked(&fleet.proxy, job));
            assert_eq!(found, (point.attempts, point.worked), "{}: {:#?}", point.name, fleet.proxy.seen(job));
        }
        assert_eq!(client.completed(last, JOB).await.attempts, 3);
        for trap in traps {
            trap.met().await;
        }
        oracle_of_messages(&fleet, &jobs).await;
        paid(&client, jobs.len() as u64).await;
        fleet.end(world).await;
    })
    .await;
}

/// Whoever got the message of an ended job again was told so, and deleted it.
async fn oracle_of_messages(fleet: &Fleet, jobs: &[String]) {
    for (point, job) in POINTS.iter().zip(jobs) {
        if matches!(point.name, "K5" | "K6") {
            let deleted = || {
                let claims = fleet.proxy.answers(job, Exchange::Claim);
                let deletes = fleet.proxy.answers(job, Exchange::Delete);
                (claims == [Some(200), Some(409)] && deletes.contains(&Some(200))).then_some(())
            };
            crate::world::processes::eventually(point.name, JOB, deleted).await;
        }
    }
}
