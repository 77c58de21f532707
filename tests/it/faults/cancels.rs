//! A job is cancelled at each moment of its work: one of both wins, wholly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use futures::future::join_all;
use rotoless_contract::JobStatus;

use super::{all_completed, bare, orders, paid};
use crate::world::client::Client;
use crate::world::fleet::Fleet;
use crate::world::proxy::{Exchange, Fault, Moment, Proxy, Rule, Trap};
use crate::world::{in_a_world, processes};

/// A worker is free again so soon.
const STOPS: Duration = Duration::from_secs(10);

/// K0–K6 and between them; whether the cancel comes in time.
const POINTS: [(Exchange, Moment, bool); 12] = [
    (Exchange::Receive, Moment::Between, true),
    (Exchange::Claim, Moment::Between, true),
    (Exchange::GetSource, Moment::Between, true),
    (Exchange::Probed, Moment::Before, true),
    (Exchange::Probed, Moment::Between, true),
    (Exchange::PutMatte, Moment::Between, true),
    (Exchange::PutOutput, Moment::Before, true),
    (Exchange::PutManifest, Moment::Before, true),
    (Exchange::PutManifest, Moment::Between, true),
    (Exchange::Report, Moment::Before, true),
    (Exchange::Report, Moment::Between, false),
    (Exchange::Delete, Moment::Before, false),
];

async fn cancelled_at(client: &Client, proxy: &Proxy, job: &str, trap: &Trap, in_time: bool) {
    trap.met().await;
    let reply = client.cancel(job).await;
    if in_time {
        let answer = reply.ok();
        assert_eq!((&answer["status"], &answer["error_code"]), (&"failed".into(), &"cancelled".into()));
    } else {
        reply.is(409, "conflict");
    }
    trap.open();
    let deleted = || proxy.answers(job, Exchange::Delete).contains(&Some(200)).then_some(());
    processes::eventually(&format!("the end of {:?}", proxy.seen(job)), STOPS, deleted).await;
    let after = client.job(job).await;
    if in_time {
        assert_eq!((after.status, &after.output_url), (JobStatus::Failed, &None), "{:#?}", proxy.seen(job));
    } else {
        assert_eq!(after.status, JobStatus::Completed);
    }
}

/// TW-11, G-14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_at_any_exchange_wins_or_loses_whole_and_the_worker_is_free_within_ten_seconds() {
    in_a_world(bare(), async |world| {
        let (client, jobs) = orders(world, POINTS.len()).await;
        let mut fleet = Fleet::of(world);
        let set = |(job, (exchange, moment, _)): (&String, &(Exchange, Moment, bool))| {
            fleet.proxy.set(Rule::once(job, *exchange, Fault::Hold(*moment)))
        };
        let traps: Vec<Trap> = jobs.iter().zip(&POINTS).map(set).collect();
        for _ in 0..3 {
            fleet.hire(world).await;
        }
        let cases = jobs.iter().zip(&traps).zip(&POINTS);
        let proxy = &fleet.proxy;
        join_all(cases.map(|((job, trap), point)| cancelled_at(&client, proxy, job, trap, point.2))).await;
        for job in &jobs {
            assert!(client.job(job).await.attempts <= 1);
        }
        paid(&client, POINTS.iter().filter(|point| !point.2).count() as u64).await;
        // Whoever worked on what nobody wants is free.
        let next = super::more_orders(world, &client, 3).await;
        all_completed(&client, &next).await;
        fleet.end(world).await;
    })
    .await;
}
