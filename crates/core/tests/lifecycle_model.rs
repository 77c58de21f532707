//! The protocol of job, hold, attempt, manifest and queue message, every interleaving, over the shipped
//! [`lifecycle::apply`] and [`Balance::after`]; everything around them is a model of the control plane's handlers,
//! workers, the queue and the sweep.
//!
//! Faults: workers are killed at any moment; reports are lost, late or doubled; messages are doubled and become
//! visible at any moment, also while their worker lives; leases end at any moment; the producer dies before its
//! send; the client cancels at any moment. A handler's look for the manifest and its commit are two steps, with
//! everything else in between. The model assumes the least of the sweep: it sends a message only where none was
//! ever sent. One run is searched: runs share nothing but the job's row. Broken variants show that the search can
//! fail. Not searched here: money of several jobs at once (`interleavings.rs`), wakes (`wake_model.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rotoless_contract::worker::FailureReason;
use rotoless_core::ledger::Hold;
use rotoless_core::lifecycle::Phase;

use explore::{Model, explore};
use protocol::{Protocol, Step, Variant};
use world::{LEDGER_START, Report, Task, World};

mod explore;
#[path = "lifecycle_model/protocol.rs"]
mod protocol;
#[path = "lifecycle_model/world.rs"]
mod world;

impl Model for Protocol {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        Protocol::start(self)
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        Protocol::steps(self, world)
    }

    fn after(&self, world: &World, step: Step) -> World {
        Protocol::after(self, world, step)
    }

    fn breach(&self, world: &World) -> Option<&'static str> {
        if world.captures > 1 {
            return Some("charged twice");
        }
        let balance = world.balance;
        let total = balance.available.0 + balance.held.0 + balance.used.0;
        if total != LEDGER_START.available.0 + LEDGER_START.held.0 {
            return Some("credits were created or lost");
        }
        if balance.held != LEDGER_START.held + world.job.hold.held() && !world.second_write {
            return Some("the balance and the open hold disagree");
        }
        if world.second_settlement {
            return Some("only the ledger's unique row stopped a second settlement");
        }
        let captured = matches!(world.job.hold, Hold::Captured(_));
        match world.job.phase {
            Phase::Completed if !world.manifest => Some("completed without a manifest"),
            Phase::Completed if !captured && !world.second_write => Some("completed, not captured"),
            Phase::Failed { .. } if !matches!(world.job.hold, Hold::Released(_)) => Some("failed, not released"),
            Phase::Draft | Phase::Pending | Phase::Processing { .. } if !matches!(world.job.hold, Hold::Held(_)) => {
                Some("an open run without a hold")
            }
            Phase::Draft | Phase::Pending | Phase::Processing { .. } | Phase::Completed | Phase::Failed { .. } => None,
        }
    }

    fn go_on(&self, world: &World) -> Option<Step> {
        Protocol::go_on(self, world)
    }

    fn bad_rest(&self, from: &World, rest: &World) -> Option<&'static str> {
        match rest.job.phase {
            Phase::Draft | Phase::Pending | Phase::Processing { .. } => return Some("the job never ends"),
            Phase::Completed | Phase::Failed { .. } => {}
        }
        if rest.visible + rest.orphaned > 0 || rest.workers.iter().any(|worker| worker.task != Task::Free) {
            return Some("a message is never deleted");
        }
        // Once somebody has looked and found nothing, or a failure is reported, a manifest written a moment later
        // may come too late: the accepted race. Otherwise finished work must be kept.
        let open = matches!(from.job.phase, Phase::Pending | Phase::Processing { .. });
        let verdict_under_way = from.sweep_looked
            || from.workers.iter().any(|worker| worker.task == Task::Claiming)
            || from.late.iter().flatten().any(|report| matches!(report, Report::Failed { .. }));
        let kept = rest.job.phase == Phase::Completed;
        (open && from.manifest && !verdict_under_way && !kept).then_some("finished work is thrown away")
    }
}

const SHIPPED: Protocol = Protocol {
    variant: Variant::Shipped,
    kills: 3,
    report_faults: 2,
    duplicates: 0,
    abandons: 0,
    late_failures: false,
};

/// What the search finds first with few faults; messages and leases still lapse at any time.
fn find(variant: Variant) -> explore::Found {
    let report_faults = u8::from(variant == Variant::ReportFromAnyAttempt);
    let protocol = Protocol { variant, kills: 0, report_faults, ..SHIPPED };
    let found = explore(&protocol).err().unwrap_or_else(|| panic!("{variant:?} was searched whole and holds"));
    eprintln!("{variant:?}: {found:?}");
    found
}

fn holds(protocol: &Protocol) {
    let searched = explore(protocol).unwrap_or_else(|found| panic!("{found:?}"));
    eprintln!("{protocol:?}: {searched:?}");
    assert!(searched.states > 100_000, "hardly searched: {searched:?}");
}

/// G-01, G-03, G-05, G-10, G-11, G-12, G-14
#[test]
fn every_interleaving_ends_the_job_once_charges_once_and_empties_the_queue() {
    holds(&SHIPPED);
}

/// G-10. Fewer kills, so that it stays a matter of seconds; all faults at once (three kills, two report faults, a
/// doubled message, an abandoned attempt) were searched once: 5 605 232 states, and it holds.
#[test]
fn a_doubled_message_changes_nothing() {
    holds(&Protocol { kills: 1, report_faults: 0, duplicates: 1, ..SHIPPED });
}

/// G-19
#[test]
fn a_failure_that_is_reported_late_or_twice_changes_nothing_more() {
    holds(&Protocol { kills: 0, late_failures: true, ..SHIPPED });
}

/// G-12
#[test]
fn an_abandoned_attempt_does_not_count_and_changes_nothing_else() {
    holds(&Protocol { kills: 0, report_faults: 0, abandons: 1, ..SHIPPED });
}

/// The check can fail: *report, and once more*.
#[test]
fn a_report_taken_from_any_attempt_without_a_hold_condition_charges_twice() {
    assert_eq!(find(Variant::ReportFromAnyAttempt).what, "charged twice");
}

/// The check can fail: *delete, die*.
#[test]
fn a_message_deleted_before_the_report_leaves_a_job_that_never_ends() {
    assert_eq!(find(Variant::DeleteBeforeReport).what, "the job never ends");
}

/// The check can fail: *the control plane dies between its two writes*.
#[test]
fn a_capture_in_a_second_write_leaves_a_completed_job_uncharged() {
    assert_eq!(find(Variant::CaptureInASecondWrite).what, "completed, not captured");
}

/// The check can fail: *write the manifest, die; the sweep fails the job*.
#[test]
fn a_last_claim_and_sweep_that_ignore_the_manifest_throw_finished_work_away() {
    let found = find(Variant::IgnoresManifestWhenExhausted);
    assert_eq!(found.what, "finished work is thrown away");
}

/// The check can fail: *commit, die*.
#[test]
fn without_a_resend_a_producer_that_dies_before_its_send_leaves_a_job_that_never_ends() {
    assert_eq!(find(Variant::NobodyResends).what, "the job never ends");
}

/// The check can fail: *report, and write the manifest later*.
#[test]
fn a_report_believed_without_its_manifest_completes_a_job_that_has_none() {
    assert_eq!(find(Variant::ReportBelieved).what, "completed without a manifest");
}

/// The reason is the public one.
#[test]
fn a_cancelled_job_says_so() {
    let world = SHIPPED.after(&SHIPPED.start(), Step::Cancel);
    assert_eq!(world.job.phase, Phase::Failed { reason: FailureReason::Cancelled });
}
