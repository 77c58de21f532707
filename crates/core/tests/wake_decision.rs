//! What a look at the wake service calls for, case by case. That no interleaving strands a message is `wake_model.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rotoless_core::wake::{Backlog, Decision, Finding, Memory, Outstanding, WakePolicy, decide};

const POLICY: fn() -> WakePolicy = WakePolicy::default;

/// Looks once a minute at things that stay as they are, for so long; what the last look decided, and when it was.
struct Looks {
    memory: Memory,
    now: Timestamp,
    policy: WakePolicy,
}

impl Looks {
    fn new() -> Self {
        Self { memory: Memory::default(), now: Timestamp::UNIX_EPOCH, policy: POLICY() }
    }

    fn look(&mut self, backlog: Backlog, outstanding: Option<Outstanding>) -> Decision {
        self.now += SignedDuration::from_mins(1);
        let (memory, decision) = decide(self.now, backlog, outstanding.as_ref(), &self.memory, &self.policy);
        self.memory = memory;
        decision
    }

    /// The minutes at which `wanted` was decided.
    fn minutes(
        &mut self,
        minutes: i64,
        backlog: Backlog,
        outstanding: Option<Outstanding>,
        wanted: impl Fn(&Decision) -> bool,
    ) -> Vec<i64> {
        (1..=minutes).filter(|_| wanted(&self.look(backlog, outstanding))).collect()
    }
}

const fn waiting(visible: u32) -> Backlog {
    Backlog { visible, in_flight: 0 }
}

fn seen(queued: u32, running: u32) -> Outstanding {
    Outstanding { queued, running, workers_max: Some(3), ..Outstanding::default() }
}

/// TW-14: in progress is what a service believes of dead workers, too.
#[test]
fn phantoms_in_progress_withhold_no_wake_and_no_keep_alive() {
    let phantom = Outstanding { in_progress: 50, ..seen(0, 0) };
    assert_eq!(Looks::new().look(waiting(2), Some(phantom)).wakes, 2);
    let days = Looks::new().minutes(8 * 1440, waiting(0), Some(phantom), |decision| decision.wakes == 1);
    assert_eq!(days.len(), 3, "{days:?}");
}

/// More than workers could serve until the next look is not posted at one.
#[test]
fn an_hour_of_lost_wakes_is_made_up_for_at_the_pace_of_the_workers() {
    let mut looks = Looks::new();
    assert_eq!(looks.look(waiting(1000), Some(seen(0, 3))).wakes, 30);
    looks.policy.workers_max = 100;
    assert_eq!(looks.look(waiting(1000), Some(seen(10, 100))).wakes, 990);
}

/// TW-15: 7 days without a request, and RunPod allows no worker any more.
#[test]
fn a_service_without_requests_gets_one_every_two_days_and_a_busy_one_none() {
    let alive = Looks::new().minutes(8 * 1440, waiting(0), Some(seen(0, 0)), |decision| decision.wakes > 0);
    assert_eq!(alive, [2881, 5761, 8641, 11521].into_iter().filter(|minute| *minute <= 8 * 1440).collect::<Vec<_>>());
    let busy = Backlog { visible: 0, in_flight: 1 };
    assert_eq!(Looks::new().minutes(8 * 1440, busy, Some(seen(0, 1)), |decision| decision.wakes > 0), [0; 0]);
    // The memory of it is not written at every look.
    let mut looks = Looks::new();
    let mut written = 0;
    for _ in 0..1440 {
        let before = looks.memory;
        looks.look(busy, Some(seen(0, 1)));
        written += u32::from(looks.memory != before);
    }
    assert_eq!(written, 24);
}

/// TW-15.
#[test]
fn a_service_that_allows_no_worker_is_an_alarm_at_once_and_passed_over_after_minutes() {
    let closed = Outstanding { workers_max: Some(0), ..seen(0, 0) };
    let mut looks = Looks::new();
    let decision = looks.look(waiting(1), Some(closed));
    assert_eq!((decision.findings, decision.to_second), (vec![Finding::NoWorkersAllowed], false));
    assert_eq!(looks.minutes(10, waiting(1), Some(closed), |decision| decision.to_second), [5, 6, 7, 8, 9, 10]);
    // One of its workers is still at work on another job: nobody follows him.
    let last = Outstanding { running: 1, ..closed };
    assert_eq!(Looks::new().minutes(7, waiting(1), Some(last), |decision| decision.to_second), [6, 7]);
    // Nobody asks it to stay alive: only a person opens it again.
    assert_eq!(Looks::new().minutes(4 * 1440, waiting(0), Some(closed), |decision| decision.wakes > 0), [0; 0]);
}

/// TW-14, TW-15: throttled, silent, or deaf.
#[test]
fn a_service_that_starts_nobody_is_passed_over_until_it_does() {
    let throttled = Outstanding { throttled: 2, ..seen(1, 0) };
    for service in [Some(throttled), Some(seen(1, 0)), None] {
        let mut looks = Looks::new();
        let barred = |decision: &Decision| decision.to_second && decision.findings.contains(&Finding::Barred);
        assert_eq!(looks.minutes(8, waiting(1), service, barred), [6, 7, 8], "{service:?}");
        // A worker begins: it is the first service's turn again.
        let starting = Outstanding { initializing: 1, ..throttled };
        assert!(!looks.look(waiting(1), Some(starting)).to_second);
        assert_eq!(looks.minutes(5, waiting(1), service, barred), [0; 0], "{service:?}");
    }
    // Nothing waits: nobody is passed over.
    assert_eq!(Looks::new().minutes(30, waiting(0), Some(throttled), |decision| decision.to_second), [0; 0]);
}

/// TW-14: wakes that nobody takes up; and a service that forgot what it throws away is not asked every minute.
#[test]
fn wakes_without_messages_are_thrown_away_after_a_quarter_of_an_hour_and_messages_keep_theirs() {
    let mut looks = Looks::new();
    assert_eq!(looks.minutes(31, waiting(2), Some(seen(5, 0)), |decision| decision.purge), [16, 31]);
    let mut looks = Looks::new();
    let decision = (0..16).map(|_| looks.look(waiting(2), Some(seen(5, 0)))).last().unwrap();
    assert_eq!((decision.purge, decision.wakes), (true, 2));
    assert!(decision.findings.contains(&Finding::WakesStuck));
    // No more than messages, and nobody starts for them though somebody might: they reach nobody.
    let purges = |service| Looks::new().minutes(31, waiting(2), Some(service), |decision| decision.purge);
    assert_eq!(purges(seen(2, 0)), [16, 31]);
    assert_eq!(purges(Outstanding { throttled: 2, ..seen(2, 0) }), [0; 0]);
    assert_eq!(purges(Outstanding { workers_max: Some(0), ..seen(2, 0) }), [0; 0]);
    assert_eq!(purges(seen(2, 1)), [0; 0]);
    // As many as there are messages, though one look posts fewer: what is thrown away is replaced.
    let mut looks = Looks::new();
    let decision = (0..16).map(|_| looks.look(waiting(200), Some(seen(201, 3)))).last().unwrap();
    assert_eq!((decision.purge, decision.wakes), (true, 200));
}

/// TW-16: a worker that hangs costs ten minutes and an alarm; where that is wanted, no more.
#[test]
fn workers_without_work_are_an_alarm_and_forbidden_where_that_is_asked_for() {
    let idling = |decision: &Decision| decision.findings == [Finding::Idling];
    assert_eq!(Looks::new().minutes(12, waiting(0), Some(seen(0, 1)), idling), [11, 12]);
    let at_work = Backlog { visible: 0, in_flight: 1 };
    assert_eq!(Looks::new().minutes(60, at_work, Some(seen(0, 1)), idling), [0; 0]);
    for (stops_idling, minutes) in [(false, vec![]), (true, vec![11, 12])] {
        let mut looks = Looks::new();
        looks.policy.stops_idling = stops_idling;
        assert_eq!(looks.minutes(12, waiting(0), Some(seen(0, 1)), |decision| decision.stop), minutes);
    }
    // It is stopped already.
    let mut looks = Looks::new();
    looks.policy.stops_idling = true;
    let stopped = Outstanding { workers_max: Some(0), ..seen(0, 1) };
    assert_eq!(looks.minutes(30, waiting(0), Some(stopped), |decision| decision.stop), [0; 0]);
}

fn outstanding() -> impl Strategy<Value = Option<Outstanding>> {
    let count = || 0..5_u32;
    let service = (count(), count(), count(), count(), count(), proptest::option::of(count())).prop_map(
        |(queued, in_progress, running, initializing, throttled, workers_max)| Outstanding {
            queued,
            in_progress,
            running,
            initializing,
            throttled,
            workers_max,
            ..Outstanding::default()
        },
    );
    proptest::option::of(service)
}

proptest! {
    /// G-17: whatever was and is, a message that no wake stands for gets one, and silence is never filled with wakes.
    #[test]
    fn a_message_without_a_wake_gets_one_and_silence_costs_next_to_nothing(
        looks in prop::collection::vec((0..5_u32, 0..3_u32, outstanding(), 1..10_000_i64), 1..40),
    ) {
        let (mut memory, mut now, mut kept_alive) = (Memory::default(), Timestamp::UNIX_EPOCH, None);
        for (visible, in_flight, service, seconds) in looks {
            now += SignedDuration::from_secs(seconds);
            let backlog = Backlog { visible, in_flight };
            let (next, decision) = decide(now, backlog, service.as_ref(), &memory, &POLICY());
            let queued = service.map_or(0, |seen| seen.queued);
            if visible > queued {
                prop_assert!(decision.wakes >= 1);
            }
            prop_assert!(decision.wakes <= visible.max(1));
            if visible == 0 && decision.wakes > 0 {
                if let Some(before) = kept_alive {
                    prop_assert!(now.duration_since(before) >= SignedDuration::from_hours(48));
                }
                kept_alive = Some(now);
            }
            prop_assert!(!decision.stop, "nobody asked for it");
            prop_assert!(!decision.purge || service.is_some());
            memory = next;
        }
    }
}
