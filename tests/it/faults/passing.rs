//! Faults that pass by themselves: lost, doubled, broken and senseless answers between a worker and everybody it talks
//! to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::json;

use super::{JOB, all_completed, bare, orders, paid};
use crate::world::fleet::Fleet;
use crate::world::proxy::{EVER, Exchange, Fault, Moment, Rule};
use crate::world::{Options, in_a_world};

/// What happens to a job, and which attempt completes it.
struct Case {
    faults: &'static [(Exchange, usize, Fault)],
    attempts: u32,
    /// How often its source was fetched whole and its output sent whole.
    worked: usize,
}

const fn case(faults: &'static [(Exchange, usize, Fault)], attempts: u32, worked: usize) -> Case {
    Case { faults, attempts, worked }
}

/// Longer than any single call may take.
const HANGS: Fault = Fault::Delay(Duration::from_secs(11));
/// Longer than lease and visibility.
const LONG: Fault = Fault::Delay(Duration::from_secs(8));

/// TR-1, TR-2: reports.
const REPORTS: &[Case] = &[
    case(&[(Exchange::Report, 2, Fault::LoseAnswer)], 1, 1),
    case(&[(Exchange::Report, 3, Fault::Status(503))], 1, 1),
    // Until the lease has ended: the next claim adopts what is there.
    case(&[(Exchange::Report, EVER, Fault::Status(503))], 1, 1),
    case(&[(Exchange::Report, 1, HANGS)], 1, 1),
    case(&[(Exchange::Report, 1, Fault::Twice)], 1, 1),
    case(&[(Exchange::Report, 2, Fault::Page)], 1, 1),
];

/// TA-10: what stands between a worker and the service answers in its stead, or not at all.
const CALLS: &[Case] = &[
    case(&[(Exchange::Claim, 2, Fault::Page)], 1, 1),
    case(&[(Exchange::Claim, 1, Fault::Status(502))], 1, 1),
    // The lease was given, and its holder does not know.
    case(&[(Exchange::Claim, 1, Fault::LoseAnswer)], 2, 1),
    case(&[(Exchange::Claim, 1, Fault::Twice)], 2, 1),
    case(&[(Exchange::Probed, 1, Fault::LoseAnswer), (Exchange::Heartbeat, 1, Fault::Page)], 1, 1),
    case(&[(Exchange::Probed, 1, Fault::Twice), (Exchange::Delete, 2, Fault::Page)], 1, 1),
    case(&[(Exchange::Delete, 1, Fault::LoseAnswer)], 1, 1),
];

/// TW-10: the object store.
const OBJECTS: &[Case] = &[
    case(&[(Exchange::GetSource, 2, Fault::Status(503)), (Exchange::GetSource, 1, Fault::Page)], 1, 1),
    case(&[(Exchange::GetSource, 2, Fault::LoseAnswer)], 1, 3),
    case(&[(Exchange::PutOutput, 2, Fault::Status(503))], 1, 1),
    case(&[(Exchange::PutOutput, 1, Fault::BreakOff), (Exchange::PutOutput, 1, Fault::LoseAnswer)], 1, 2),
    case(&[(Exchange::PutManifest, 2, Fault::Status(503)), (Exchange::PutManifest, 1, Fault::BreakOff)], 1, 1),
    case(&[(Exchange::PutManifest, 1, Fault::LoseAnswer)], 1, 1),
    // Taken for somebody else's; adopted when the lease has ended.
    case(&[(Exchange::PutManifest, 1, Fault::Twice)], 1, 1),
];

/// TW-3: lease and message lapse, together and the message alone.
const LAPSES: &[Case] = &[
    case(
        &[
            (Exchange::Heartbeat, EVER, Fault::Status(503)),
            (Exchange::Extend, EVER, Fault::Status(503)),
            (Exchange::PutOutput, 1, LONG),
        ],
        2,
        2,
    ),
    case(&[(Exchange::Extend, EVER, Fault::Status(503)), (Exchange::PutOutput, 1, LONG)], 1, 1),
];

/// TR-1, TR-2, TW-3, TW-10, TA-10, G-11, G-19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_doubled_and_senseless_answers_delay_a_job_and_neither_lose_nor_double_it() {
    let expected_errors = &["report had no success", "measurement was not accepted"];
    in_a_world(Options { expected_errors, ..bare() }, async |world| {
        let cases: Vec<&Case> = [REPORTS, CALLS, OBJECTS, LAPSES].into_iter().flatten().collect();
        let (client, jobs) = orders(world, cases.len()).await;
        let mut fleet = Fleet::of(world);
        let proxy = fleet.proxy.clone();
        for (job, case) in jobs.iter().zip(&cases) {
            for (exchange, times, fault) in case.faults {
                // Only the first attempt suffers what does not pass by itself.
                let rule = Rule::once(job, *exchange, *fault).times(*times);
                proxy.set(if *times == EVER { rule.of_attempt(1) } else { rule });
            }
        }
        // The queue's own turn: whoever asks for work.
        for fault in [Fault::Page, Fault::Status(503), Fault::LoseAnswer] {
            proxy.set(Rule { exchange: Exchange::Receive, job: None, attempt: None, says: "", times: 1, fault });
        }
        for _ in 0..7 {
            fleet.hire(world).await;
        }
        let done = all_completed(&client, &jobs).await;
        let whole =
            |job: &str, exchange| proxy.answers(job, exchange).iter().filter(|status| **status == Some(200)).count();
        for ((job, case), done) in jobs.iter().zip(&cases).zip(done) {
            let worked = whole(job, Exchange::GetSource).max(whole(job, Exchange::PutOutput));
            assert_eq!(
                (done.attempts, worked),
                (case.attempts, case.worked),
                "{:?}: {:#?}",
                case.faults,
                proxy.seen(job)
            );
        }
        assert!(proxy.unmet().is_empty(), "{:#?}", proxy.unmet());
        paid(&client, jobs.len() as u64).await;
        fleet.end(world).await;
    })
    .await;
}

/// TW-2, G-10: two copies of one message at two workers that claim at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_workers_with_one_message_each_one_works_and_the_other_deletes_its_copy() {
    in_a_world(bare(), async |world| {
        let (client, jobs) = orders(world, 1).await;
        let job = &jobs[0];
        let (sqs, queue) = world.queue();
        let taken = sqs.receive_message().queue_url(&queue).visibility_timeout(0).send().await.unwrap();
        let body = taken.messages()[0].body().unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["job_id"] == json!(job));
        sqs.send_message().queue_url(&queue).message_body(body).send().await.unwrap();
        let mut fleet = Fleet::of(world);
        let claims = fleet.proxy.set(Rule::once(job, Exchange::Claim, Fault::Hold(Moment::Before)).times(2));
        fleet.hire(world).await;
        fleet.hire(world).await;
        let mut both = claims.met().await;
        both.sort_unstable();
        assert_eq!(both, [0, 1]);
        claims.open();
        assert_eq!(client.completed(job, JOB).await.attempts, 1);
        world.queue_empties().await;
        let mut answers = fleet.proxy.answers(job, Exchange::Claim);
        answers.sort_unstable();
        // The other one asked again, until it heard that all is over.
        assert!(answers.len() > 2 && answers[0] == Some(200), "{answers:?}");
        assert!(answers[1..].iter().all(|answer| *answer == Some(409)), "{answers:?}");
        assert_eq!(fleet.proxy.answers(job, Exchange::PutManifest), [Some(200)]);
        paid(&client, 1).await;
        fleet.end(world).await;
    })
    .await;
}
