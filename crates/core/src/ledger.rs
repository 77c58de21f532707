//! Credits as a pure, closed state machine: hold → capture | release, and the balance they move.
//!
//! Invariant: `granted = available + held + used`, all ≥ 0; each movement has one ledger row whose id is its
//! cause, so a cause can move credits once.

use rotoless_contract::{Attempt, JobId, MilliCredits, Run};
use serde::{Deserialize, Serialize};

/// The credits of a job's current run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "hold", content = "amount", rename_all = "snake_case")]
pub enum Hold {
    /// Never started.
    None,
    /// Reserved.
    Held(MilliCredits),
    /// Taken: the amount charged.
    Captured(MilliCredits),
    /// Given back: the amount that was held.
    Released(MilliCredits),
}

impl Hold {
    /// What is reserved now.
    #[must_use]
    pub const fn held(self) -> MilliCredits {
        match self {
            Self::Held(amount) => amount,
            Self::None | Self::Captured(_) | Self::Released(_) => MilliCredits::ZERO,
        }
    }

    /// What was taken.
    #[must_use]
    pub const fn charged(self) -> MilliCredits {
        match self {
            Self::Captured(amount) => amount,
            Self::None | Self::Held(_) | Self::Released(_) => MilliCredits::ZERO,
        }
    }

    /// Another amount held; no movement where it is the same. `None` unless held.
    #[must_use]
    pub fn adjust(self, to: MilliCredits) -> Option<(Self, Option<Movement>)> {
        match self {
            Self::Held(from) if from == to => Some((self, None)),
            Self::Held(from) => Some((Self::Held(to), Some(Movement::Adjust { from, to }))),
            Self::None | Self::Captured(_) | Self::Released(_) => None,
        }
    }

    /// Taken, at most what is held; the rest goes back. `None` unless held.
    #[must_use]
    pub fn capture(self, charge: MilliCredits) -> Option<(Self, Movement)> {
        match self {
            Self::Held(held) => {
                let charged = charge.min(held);
                Some((Self::Captured(charged), Movement::Capture { held, charged }))
            }
            Self::None | Self::Captured(_) | Self::Released(_) => None,
        }
    }

    /// Given back, if held.
    #[must_use]
    pub const fn release(self) -> (Self, Option<Movement>) {
        match self {
            Self::Held(held) => (Self::Released(held), Some(Movement::Release(held))),
            Self::None | Self::Captured(_) | Self::Released(_) => (self, None),
        }
    }
}

/// Credits that move between a client's `available`, `held` and `used`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Movement {
    /// From the operator to available.
    Grant(MilliCredits),
    /// From available to held.
    Hold(MilliCredits),
    /// Another amount held.
    Adjust {
        /// Held before.
        from: MilliCredits,
        /// Held after.
        to: MilliCredits,
    },
    /// From held to used; what is not charged goes back to available.
    Capture {
        /// Held before.
        held: MilliCredits,
        /// Taken.
        charged: MilliCredits,
    },
    /// From held back to available.
    Release(MilliCredits),
}

/// What a movement adds to each part of a balance, in milli-credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delta {
    /// To `available`.
    pub available: i128,
    /// To `held`.
    pub held: i128,
    /// To `used`.
    pub used: i128,
}

impl Movement {
    /// The word of the ledger row.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Hold(_) => "hold",
            Self::Adjust { .. } => "adjust",
            Self::Capture { .. } => "capture",
            Self::Release(_) => "release",
        }
    }

    /// What it adds to each part of the balance.
    #[must_use]
    pub fn delta(self) -> Delta {
        let of = |amount: MilliCredits| i128::from(amount.0);
        match self {
            Self::Grant(amount) => Delta { available: of(amount), ..Delta::default() },
            Self::Hold(amount) => Delta { available: -of(amount), held: of(amount), used: 0 },
            Self::Adjust { from, to } => Delta { available: of(from) - of(to), held: of(to) - of(from), used: 0 },
            Self::Capture { held, charged } => {
                Delta { available: of(held) - of(charged), held: -of(held), used: of(charged) }
            }
            Self::Release(amount) => Delta { available: of(amount), held: -of(amount), used: 0 },
        }
    }
}

/// A client's credits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Balance {
    /// Can be held.
    pub available: MilliCredits,
    /// Reserved for jobs.
    pub held: MilliCredits,
    /// Taken.
    pub used: MilliCredits,
}

impl Balance {
    /// The balance after a movement, or `None` where a part would become negative or overflow. The store
    /// enforces the same by its conditions; this is the rule they are tested against.
    #[must_use]
    pub fn after(self, movement: Movement) -> Option<Self> {
        let delta = movement.delta();
        let part =
            |amount: MilliCredits, change: i128| u64::try_from(i128::from(amount.0) + change).ok().map(MilliCredits);
        Some(Self {
            available: part(self.available, delta.available)?,
            held: part(self.held, delta.held)?,
            used: part(self.used, delta.used)?,
        })
    }
}

/// Why credits moved: the id of the ledger row, which exists at most once a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The operator granted them.
    Grant {
        /// Given by the operator or made for him.
        grant_id: String,
    },
    /// A run's hold.
    Hold(JobId, Run),
    /// A run's hold after an attempt measured the source.
    Adjust(JobId, Run, Attempt),
    /// The end of a run's hold: capture or release, whichever comes first.
    Settle(JobId, Run),
}

impl Cause {
    /// The row's id within the client's ledger.
    #[must_use]
    pub fn row_id(&self) -> String {
        match self {
            Self::Grant { grant_id } => format!("grant#{grant_id}"),
            Self::Hold(job, run) => format!("hold#{job}#{run}"),
            Self::Adjust(job, run, attempt) => format!("adjust#{job}#{run}#{attempt}"),
            Self::Settle(job, run) => format!("settle#{job}#{run}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_never_takes_more_than_the_hold_and_gives_the_rest_back() {
        let held = Hold::Held(MilliCredits(2250));
        assert_eq!(
            held.capture(MilliCredits(9000)),
            Some((
                Hold::Captured(MilliCredits(2250)),
                Movement::Capture { held: MilliCredits(2250), charged: MilliCredits(2250) }
            ))
        );
        let balance = Balance { available: MilliCredits(0), held: MilliCredits(2250), used: MilliCredits(0) };
        let after = balance.after(Movement::Capture { held: MilliCredits(2250), charged: MilliCredits(750) });
        assert_eq!(
            after,
            Some(Balance { available: MilliCredits(1500), held: MilliCredits(0), used: MilliCredits(750) })
        );
    }

    #[test]
    fn a_settled_hold_settles_no_more() {
        for hold in [Hold::None, Hold::Captured(MilliCredits(1)), Hold::Released(MilliCredits(1))] {
            assert_eq!(hold.capture(MilliCredits(1)), None);
            assert_eq!(hold.release(), (hold, None));
            assert_eq!(hold.adjust(MilliCredits(1)), None);
        }
    }

    #[test]
    fn no_part_of_a_balance_becomes_negative_or_overflows() {
        let balance = Balance { available: MilliCredits(5), held: MilliCredits(0), used: MilliCredits(u64::MAX) };
        assert_eq!(balance.after(Movement::Hold(MilliCredits(6))), None);
        assert_eq!(balance.after(Movement::Release(MilliCredits(1))), None);
        assert_eq!(balance.after(Movement::Grant(MilliCredits(u64::MAX))), None);
    }
    proptest::proptest! {
        /// TS-11. Amounts are exact up to 2^64 - 1 milli-credits: a movement conserves them or is refused whole.
        #[test]
        fn a_movement_conserves_credits_over_the_whole_range(
            parts: (u64, u64, u64),
            charge: u64,
            to: u64,
            near_the_end: bool,
        ) {
            let near = |n: u64| MilliCredits(if near_the_end { u64::MAX - n % 3 } else { n });
            let balance = Balance { available: near(parts.0), held: near(parts.1), used: near(parts.2) };
            let total = |b: Balance| u128::from(b.available.0) + u128::from(b.held.0) + u128::from(b.used.0);
            let hold = Hold::Held(balance.held);
            let movements = [
                hold.capture(near(charge)).map(|(_, movement)| movement),
                hold.adjust(near(to)).and_then(|(_, movement)| movement),
                hold.release().1,
                Some(Movement::Hold(near(to))),
            ];
            for movement in movements.into_iter().flatten() {
                if let Some(after) = balance.after(movement) {
                    assert_eq!(total(after), total(balance), "{movement:?}");
                }
            }
            if let Some(after) = balance.after(Movement::Grant(near(to))) {
                assert_eq!(total(after), total(balance) + u128::from(near(to).0));
            }
        }
    }
}
