//! The eventcount's table does what its functions say.

use jiff::Timestamp;
use rotoless_contract::WorkerId;
use rotoless_core::eventcount::Eventcount;
use rotoless_core::ports::Eventcounts as _;

use crate::world::{Fate, Request, World};

scenarios! {
    the_table_does_to_the_eventcount_what_its_functions_do,
    workers_that_say_different_things_at_once_are_all_heard,
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap()
}

fn worker(number: u64) -> WorkerId {
    WorkerId::from_random([u8::try_from(number).unwrap(); 16])
}

/// A sequence that is the same every time. <https://prng.di.unimi.it/splitmix64.c>
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// G-17: what the model check searched is what the table does.
async fn the_table_does_to_the_eventcount_what_its_functions_do(world: World) {
    let mut numbers = Numbers(17);
    let mut model = Eventcount::default();
    let (mut refused, mut slept) = (0, 0);
    for step in 0..300 {
        let (who, now, until) = (worker(numbers.below(3)), at(numbers.below(5)), at(numbers.below(5)));
        match numbers.below(7) {
            0 => {
                model.ring();
                assert_eq!(world.store.ring().await.unwrap(), model, "{step}");
            }
            1 => {
                model.rise(&who, until);
                assert_eq!(world.store.rise(&who, until).await.unwrap(), model, "{step}");
            }
            2 => {
                model.renew(&who, until);
                assert_eq!(world.store.renew(&who, until).await.unwrap(), model, "{step}");
            }
            3 => {
                let behind = numbers.below(3);
                let seq = (behind < 2).then(|| model.seq.saturating_sub(behind));
                // An item that was never written has no count to compare with; a worker rises before it sleeps.
                if seq.is_some() && model.seq == 0 {
                    continue;
                }
                let may = model.sleep(&who, seq);
                assert_eq!(world.store.sleep(&who, seq).await.unwrap(), may, "{step}");
                *(if may { &mut slept } else { &mut refused }) += 1;
            }
            4 => {
                let risen = model.risen.saturating_sub(u64::from(numbers.below(4) == 0));
                let may = model.reserve(risen, now, until);
                assert_eq!(world.store.reserve(risen, now, until).await.unwrap(), may, "{step}");
            }
            5 => {
                world.store.cancel(until).await.unwrap();
                model.cancel(until);
            }
            _ => {
                world.store.forget(&who, until).await.unwrap();
                model.forget(&who, until);
            }
        }
    }
    model.ring();
    assert_eq!(world.store.ring().await.unwrap(), model);
    assert!(refused > 5 && slept > 5, "{refused} refused, {slept} slept");
}

async fn workers_that_say_different_things_at_once_are_all_heard(world: World) {
    let calls = (0..8).map(|number| {
        let store = world.another_process();
        async move {
            store.rise(&worker(number), at(100)).await.unwrap();
            store.ring().await.unwrap();
            store.renew(&worker(number), at(200)).await.unwrap();
        }
    });
    futures::future::join_all(calls).await;
    let count = world.store.ring().await.unwrap();
    assert_eq!((count.seq, count.awake(at(150))), (9, 8));
    let reserved = futures::future::join_all((0..8).map(|number| {
        let (store, count) = (world.another_process(), &count);
        async move { store.reserve(count.risen, at(0), at(30 + number)).await.unwrap() }
    }));
    assert_eq!(reserved.await.into_iter().filter(|mine| *mine).count(), 1, "one starts workers");
}

/// G-17: an answer that was lost is asked for again, and the second time comes to the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_neither_strands_a_message_nor_keeps_a_worker() {
    let world = World::start().await;
    let every_other =
        |request: &Request<'_>| if request.before.is_multiple_of(2) { Fate::LoseReply } else { Fate::Forward };
    let (flaky, _) = world.disturbed("UpdateItem", every_other).await;
    let count = flaky.rise(&worker(1), at(100)).await.unwrap();
    let rung = flaky.ring().await.unwrap();
    assert!(rung.seq > count.seq);
    assert!(!flaky.sleep(&worker(1), Some(count.seq)).await.unwrap());
    assert!(flaky.sleep(&worker(1), Some(rung.seq)).await.unwrap());
    assert_eq!(world.store.ring().await.unwrap().awake(at(0)), 0);
}
