//! The control plane's promises about wakes, on a virtual clock: whatever becomes of them, what waits is worked at soon
//! after the endpoint can, and nobody is paid for nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use jiff::SignedDuration;
use rotoless_core::wake::{Finding, WakePolicy};

use super::platform::{DAY, HOUR, MINUTE, Millis, Platform, Route, SECOND, Scaler, Settings, Trouble, WakeFate};
use super::virtual_time::{Pace, Site};

/// From the moment the endpoint can to the moment a worker has the message: TW-14.
const SOON: Millis = 2 * MINUTE;

/// With workers that were busy a moment ago, so that not everything is as on the first day.
async fn used_site(settings: Settings, policy: WakePolicy, has_second: bool) -> Site {
    let site = Site::new(settings, Pace::default(), policy, has_second);
    site.submit();
    site.until("the first job", 5 * MINUTE, |site| site.job(0).done.is_some()).await;
    site.pass(HOUR).await;
    site
}

/// TW-14: each fault, set when a job is about to be submitted, and the time until it is over.
#[tokio::test]
async fn a_job_starts_within_two_minutes_of_the_end_of_what_befell_its_wake() {
    type Fault = fn(&mut Platform, Millis);
    fn wakes(platform: &mut Platform, fates: &[WakeFate]) {
        platform.faults.wakes.extend(fates);
    }
    fn all(platform: &mut Platform, trouble: Trouble) {
        for route in [Route::Run, Route::Health] {
            platform.faults.trouble(route, trouble, 1000);
        }
    }
    const LONG: Millis = 5 * MINUTE;
    let faults: [(&str, Millis, Fault); 10] = [
        ("lost", 0, |platform, _| wakes(platform, &[WakeFate::Lost])),
        ("doubled", 0, |platform, _| wakes(platform, &[WakeFate::Doubled])),
        ("held back", 0, |platform, _| wakes(platform, &[WakeFate::Held { lasts: LONG, counted: false }])),
        ("held back and counted", LONG, |platform, _| {
            wakes(platform, &[WakeFate::Held { lasts: LONG, counted: true }])
        }),
        ("phantom", 0, |platform, now| {
            platform.haunt(now);
            wakes(platform, &[WakeFate::Lost]);
        }),
        ("phantoms as many as workers", 0, |platform, now| {
            (0..3).for_each(|_| platform.haunt(now));
            wakes(platform, &[WakeFate::Lost]);
        }),
        ("429", 10 * MINUTE, |platform, _| all(platform, Trouble::Refuse(429))),
        ("500", 10 * MINUTE, |platform, _| all(platform, Trouble::Refuse(500))),
        ("hang", 10 * MINUTE, |platform, _| all(platform, Trouble::Hang)),
        ("accepted and denied", 0, |platform, _| all(platform, Trouble::Deny(500))),
    ];
    for (name, lasts, set) in faults {
        for second_of_the_minute in [1, 31, 59] {
            let site = used_site(Settings::default(), WakePolicy::default(), false).await;
            site.pass(second_of_the_minute * SECOND).await;
            site.platform(set);
            let job = site.submit();
            site.pass(lasts).await;
            site.platform(|platform, _| platform.faults.repair());
            let well = site.now();
            site.until(name, SOON, |site| site.job(job).started.is_some()).await;
            let job = site.job(job);
            assert!(job.started.unwrap() <= well + SOON, "{name}: {job:?}");
            site.until("the end", 10 * MINUTE, Site::is_at_rest).await;
            // No work twice, so nothing to be charged twice.
            assert_eq!(site.jobs().iter().map(|job| job.attempts).collect::<Vec<_>>(), [1, 1], "{name}");
            assert_eq!(site.platform(|platform, _| platform.verdict()), Vec::<String>::new(), "{name}");
        }
    }
}

/// TW-14: the queue is purged under waiting wakes, by whomever.
#[tokio::test]
async fn purged_wakes_are_replaced_at_the_next_look() {
    let site = used_site(Settings { workers_max: 1, ..Settings::default() }, WakePolicy::default(), false).await;
    let jobs: Vec<usize> = (0..5).map(|_| site.submit()).collect();
    site.pass(2 * SECOND).await;
    site.platform(|platform, now| platform.purge(now)).unwrap();
    let purged = site.now();
    site.until("the first one", SOON, |site| site.job(jobs[0]).started.is_some()).await;
    site.until("all of them", 10 * MINUTE, |site| jobs.iter().all(|job| site.job(*job).done.is_some())).await;
    // One after the other: nobody waits for a further look between two of them.
    assert!(site.now() <= purged + SOON + 5 * (Pace::default().work + 15 * SECOND));
    site.until("the end", 5 * MINUTE, Site::is_at_rest).await;
}

/// TW-14, and what a wake costs that nobody needed: a short poll, and no more.
#[tokio::test]
async fn a_doubled_wake_costs_one_empty_poll() {
    let site = used_site(Settings::default(), WakePolicy::default(), false).await;
    let before = site.platform(|platform, now| platform.witness.seconds_billed(now));
    site.platform(|platform, _| platform.faults.wakes.push_back(WakeFate::Doubled));
    site.submit();
    site.until("the end", 10 * MINUTE, Site::is_at_rest).await;
    let (handled, empty) = site.platform(|platform, _| platform.witness.handled());
    assert_eq!((handled, empty), (2, 1));
    let billed = site.platform(|platform, now| platform.witness.seconds_billed(now)) - before;
    // The job on a thawed worker, a boot and a poll beside it, and twice the idle timeout.
    assert!(billed <= 30 + (10 + 20) + 2 * (5 + 3), "{billed} s");
}

/// TW-15: the trap of an endpoint that nobody used, or a hand on the switch.
#[tokio::test]
async fn an_endpoint_that_may_have_no_workers_is_told_of_and_the_second_service_works() {
    let site = used_site(Settings::default(), WakePolicy::default(), true).await;
    site.platform(|platform, now| platform.set_workers_max(now, 0));
    let jobs: Vec<usize> = (0..3).map(|_| site.submit()).collect();
    let sent = site.now();
    site.until("the finding", 2 * MINUTE, |site| site.found(Finding::NoWorkersAllowed).is_some()).await;
    assert_eq!(site.wakes_of_looks().1, 0, "a look is no reason to pay for another home");
    site.until("their end", 15 * MINUTE, |site| jobs.iter().all(|job| site.job(*job).done.is_some())).await;
    let started = jobs.iter().map(|job| site.job(*job).started.unwrap()).max().unwrap();
    // After 5 minutes of nothing the next look turns to the second one, whose machines take a minute and a half.
    assert!(started <= sent + 9 * MINUTE, "{}", started - sent);
    assert!(site.found(Finding::Barred).is_some());
    let (_, seconds) = site.wakes_of_looks();
    assert!((3..=6).contains(&seconds), "{seconds}");
}

/// TW-15: no machine with a GPU is free for half an hour.
#[tokio::test]
async fn while_no_machine_is_free_the_second_service_works_and_then_the_first_one_again() {
    let site = used_site(Settings::default(), WakePolicy::default(), true).await;
    site.platform(|platform, _| platform.faults.throttled = true);
    let throttled = site.now();
    let first = site.submit();
    site.until("its start", 10 * MINUTE, |site| site.job(first).started.is_some()).await;
    assert!(site.found(Finding::Barred).is_some_and(|found| found <= throttled + 7 * MINUTE));
    site.pass(throttled + 30 * MINUTE - site.now()).await;
    site.platform(|platform, _| platform.faults.throttled = false);
    site.until("the end", 10 * MINUTE, Site::is_at_rest).await;
    let (_, seconds) = site.wakes_of_looks();
    let next = site.submit();
    site.until("the next one's end", 5 * MINUTE, |site| site.job(next).done.is_some()).await;
    assert_eq!(site.wakes_of_looks().1, seconds, "the first one is well again");
    site.until("the end", 5 * MINUTE, Site::is_at_rest).await;
}

/// The same without a second service: told of, and done when there is a machine again.
#[tokio::test]
async fn while_no_machine_is_free_jobs_wait_and_people_are_told() {
    let site = used_site(Settings::default(), WakePolicy::default(), false).await;
    site.platform(|platform, _| platform.faults.throttled = true);
    let jobs: Vec<usize> = (0..4).map(|_| site.submit()).collect();
    site.pass(30 * MINUTE).await;
    assert!(site.found(Finding::Barred).is_some());
    assert_eq!(site.platform(|platform, now| platform.health(now)["workers"]["throttled"].clone()), 3);
    site.platform(|platform, _| platform.faults.throttled = false);
    let free = site.now();
    site.until("all of them", 10 * MINUTE, |site| jobs.iter().all(|job| site.job(*job).done.is_some())).await;
    assert!(jobs.iter().any(|job| site.job(*job).started.unwrap() <= free + SOON));
    site.until("the end", 10 * MINUTE, Site::is_at_rest).await;
}

/// TW-15, G-17: eight days in which nobody orders anything.
#[tokio::test]
async fn an_endpoint_that_nobody_uses_is_kept_alive_for_next_to_nothing() {
    let site = used_site(Settings::default(), WakePolicy::default(), false).await;
    let before = site.platform(|platform, now| platform.witness.seconds_billed(now));
    let mut least = u32::MAX;
    for _ in 0..8 * 24 {
        site.pass(HOUR).await;
        least = least.min(site.platform(|platform, _| platform.workers_max()));
    }
    assert_eq!(least, 3, "neither trap sprang");
    assert_eq!(site.findings(), []);
    let billed = site.platform(|platform, now| platform.witness.seconds_billed(now)) - before;
    // A wake in two days: a boot or a thaw, an empty poll, the idle timeout.
    assert!((1..=4 * 45).contains(&billed), "{billed} s");
    let job = site.submit();
    site.until("its start", SOON, |site| site.job(job).started.is_some()).await;
}

/// The check can fail: without the keep-alive the endpoint is closed after seven days, and says so.
#[tokio::test]
async fn without_the_keep_alive_the_endpoint_is_closed_after_seven_days() {
    let policy = WakePolicy { keep_alive_after: SignedDuration::from_hours(24 * 365), ..WakePolicy::default() };
    let site = used_site(Settings::default(), policy, false).await;
    site.pass(3 * DAY + HOUR).await;
    assert_eq!(site.platform(|platform, _| platform.workers_max()), 2);
    site.pass(4 * DAY).await;
    assert_eq!(site.platform(|platform, _| platform.workers_max()), 0);
    assert!(site.found(Finding::NoWorkersAllowed).is_some());
    let job = site.submit();
    site.pass(HOUR).await;
    assert_eq!(site.job(job).started, None);
    // Until a person raises it again.
    site.platform(|platform, now| platform.set_workers_max(now, 3));
    site.until("its start", SOON, |site| site.job(job).started.is_some()).await;
}

/// TW-16
#[tokio::test]
async fn after_fifty_jobs_and_silence_no_worker_is_left_within_the_idle_timeout_and_a_minute() {
    for scaler in [Scaler::QueueDelay(4 * SECOND), Scaler::RequestCount(1)] {
        for flashboot in [true, false] {
            let settings =
                Settings { scaler, flashboot, workers_max: 5, idle_timeout: 10 * SECOND, ..Settings::default() };
            // The queue's counts are a minute old, as they may be.
            let pace = Pace { lag: MINUTE, ..Pace::default() };
            let site = Site::new(settings.clone(), pace, WakePolicy { workers_max: 5, ..WakePolicy::default() }, false);
            for _ in 0..50 {
                site.submit();
                site.pass(3 * SECOND).await;
            }
            site.until("all of them", HOUR, |site| site.jobs().iter().all(|job| job.done.is_some())).await;
            let last = site.now();
            site.until("the end", HOUR, |site| site.platform(|platform, _| platform.up().is_empty())).await;
            let took = site.now() - last;
            eprintln!("{scaler:?}, FlashBoot {flashboot}: {took} ms until nobody ran, {:?}", bill(&site));
            assert!(took <= settings.idle_timeout + MINUTE, "{scaler:?}: {took} ms; {}", site.account());
            site.pass(2 * HOUR).await;
            assert!(site.is_at_rest());
            assert_eq!(site.platform(|platform, _| platform.verdict()), Vec::<String>::new());
        }
    }
}

/// What was billed and what was worked, in seconds; sessions with and without a message.
fn bill(site: &Site) -> (u64, u64, (usize, usize)) {
    site.platform(|platform, now| {
        let work = platform.witness.time_in_sessions() / SECOND;
        (platform.witness.seconds_billed(now), work, platform.witness.handled())
    })
}

/// G-17: nobody is paid for long who does nothing, whatever the platform believes.
#[tokio::test]
async fn a_worker_that_runs_without_work_is_found_and_where_it_is_wished_forbidden() {
    for stops_idling in [false, true] {
        // With this scaler a request that is in progress for ever keeps a worker running for nothing.
        let settings = Settings { scaler: Scaler::RequestCount(1), ..Settings::default() };
        let site = used_site(settings, WakePolicy { stops_idling, ..WakePolicy::default() }, false).await;
        site.platform(Platform::haunt);
        let since = site.now();
        site.pass(20 * MINUTE).await;
        let found = site.found(Finding::Idling).expect("somebody is told");
        assert!(found <= since + 12 * MINUTE, "{}", found - since);
        assert_eq!(site.stopped().is_some(), stops_idling);
        assert_eq!(site.platform(|platform, _| platform.up().len()), usize::from(!stops_idling));
    }
}

/// The reason for the scaler that counts waiting requests alone: a phantom costs nothing there.
#[tokio::test]
async fn a_phantom_keeps_no_worker_where_waiting_requests_alone_count() {
    let site = used_site(Settings::default(), WakePolicy::default(), false).await;
    site.platform(Platform::haunt);
    site.pass(HOUR).await;
    assert_eq!((site.platform(|platform, _| platform.up().len()), site.findings()), (0, Vec::new()));
}

/// A session that hangs is ended by its watchdog, or at the latest by the endpoint; its job is done long before.
#[tokio::test]
async fn a_worker_that_hangs_is_ended_by_the_next_net_and_its_job_is_done_by_another() {
    for (watchdog, most) in [(Some(2 * MINUTE), 5 * MINUTE), (None, 2 * HOUR + 5 * MINUTE)] {
        let site = used_site(Settings::default(), WakePolicy::default(), false).await;
        let job = site.submit();
        site.until("its start", SOON, |site| site.job(job).started.is_some()).await;
        site.hang_worker(0, watchdog);
        let hangs = site.now();
        // The message comes back after two minutes, and the next look wakes for it.
        site.until("its end", 6 * MINUTE, |site| site.job(job).done.is_some()).await;
        assert_eq!(site.job(job).attempts, 2);
        site.until("the end", 3 * HOUR, Site::is_at_rest).await;
        assert!(site.now() <= hangs + most, "{watchdog:?}: {}", site.now() - hangs);
    }
}

/// TW-14: the endpoint has lost sight of a wake and counts it for ever.
#[tokio::test]
async fn wakes_that_no_worker_ever_gets_are_thrown_away_and_replaced() {
    let site = used_site(Settings::default(), WakePolicy::default(), false).await;
    let stuck = WakeFate::Held { lasts: DAY, counted: true };
    site.platform(|platform, _| platform.faults.wakes.extend([stuck, stuck]));
    let job = site.submit();
    // As many wakes as messages: nothing is missing by the count.
    site.until("its start", 20 * MINUTE, |site| site.job(job).started.is_some()).await;
}
