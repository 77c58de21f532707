//! Seeded misbehaviour of a queue: what real standard queues do now and then, on demand.

/// How often the queue misbehaves: probabilities from 0 to 1, all decided by `seed` and the order of calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chaos {
    pub seed: u64,
    /// A received message is also delivered to somebody else.
    pub duplicate: f64,
    /// A receive answers with nothing although messages are there.
    pub skip_receive: f64,
    /// A receive takes its messages in any order.
    pub reorder: f64,
    /// A delete is acknowledged, and the message comes back after its visibility timeout.
    pub drop_delete: f64,
}

impl Chaos {
    /// No misbehaviour; set the fields wanted.
    #[must_use]
    pub fn quiet(seed: u64) -> Self {
        Self { seed, duplicate: 0.0, skip_receive: 0.0, reorder: 0.0, drop_delete: 0.0 }
    }
}

/// The dice of one queue host.
#[derive(Debug)]
pub(crate) struct Dice {
    chaos: Chaos,
    state: u64,
}

impl Dice {
    pub(crate) fn new(chaos: Option<Chaos>) -> Self {
        let chaos = chaos.unwrap_or_else(|| Chaos::quiet(0));
        Self { chaos, state: chaos.seed }
    }

    pub(crate) fn duplicate(&mut self) -> bool {
        let p = self.chaos.duplicate;
        self.roll(p)
    }

    pub(crate) fn skip_receive(&mut self) -> bool {
        let p = self.chaos.skip_receive;
        self.roll(p)
    }

    pub(crate) fn reorder(&mut self) -> bool {
        let p = self.chaos.reorder;
        self.roll(p)
    }

    pub(crate) fn drop_delete(&mut self) -> bool {
        let p = self.chaos.drop_delete;
        self.roll(p)
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = usize::try_from(self.next() % (i as u64 + 1)).unwrap_or(i);
            items.swap(i, j);
        }
    }

    fn roll(&mut self, probability: f64) -> bool {
        // A probability of 0 draws nothing, so that turning one knob does not change what the others do.
        probability > 0.0 && (self.next() >> 11) as f64 / (1_u64 << 53) as f64 <= probability
    }

    /// SplitMix64: the smallest generator that passes the usual tests.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_misbehaves_the_same_way_and_about_as_often_as_asked() {
        let chaos = Chaos { duplicate: 0.25, ..Chaos::quiet(7) };
        let rolls = |chaos| {
            let mut dice = Dice::new(Some(chaos));
            (0..4000).map(|_| dice.duplicate()).collect::<Vec<_>>()
        };
        assert_eq!(rolls(chaos), rolls(chaos));
        assert_ne!(rolls(chaos), rolls(Chaos { seed: 8, ..chaos }));
        let hits = rolls(chaos).into_iter().filter(|hit| *hit).count();
        assert!((900..1100).contains(&hits), "{hits}");
    }

    #[test]
    fn without_chaos_nothing_misbehaves() {
        let mut dice = Dice::new(None);
        assert!((0..1000).all(|_| !dice.duplicate() && !dice.skip_receive() && !dice.reorder() && !dice.drop_delete()));
    }
}
