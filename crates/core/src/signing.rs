//! A client's webhook secrets over time: two-step rotation, so that no event is refused by a receiver who follows.
//!
//! A secret is a generation, derived from the operator's master: nothing secret is stored. First a new generation is
//! *staged*: shown to the operator, handed to the client, and signed with beside the current one where a header may
//! hold several signatures. Then it is *promoted*: it signs the main header, and the one before goes on signing
//! `X-Webhook-Signature-Previous` for a day. A receiver that tries both never refuses; one that knows a single secret
//! can refuse only between its own switch and the promotion, and the schedule's next try heals that.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a replaced secret goes on signing.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// Which generations of a client's secret are in use. The default is that of a client who never rotated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signing {
    /// Grows by one with every change; 0 while nothing is stored.
    pub version: u64,
    /// Signs the main header.
    pub current: u32,
    /// Handed out, not yet in the main header.
    pub staged: Option<u32>,
    /// Replaced, and until when it goes on signing.
    pub previous: Option<(u32, Timestamp)>,
    /// The newest generation there ever was: a number is never used twice.
    pub newest: u32,
}

/// There is no staged secret to promote or to discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no secret is staged")]
pub struct NothingStaged;

impl Signing {
    /// With a new generation staged. One that is staged already stays: asking twice must not change what the client
    /// was given.
    #[must_use]
    pub fn stage(&self) -> Self {
        if self.staged.is_some() {
            return self.clone();
        }
        let newest = self.newest + 1;
        Self { version: self.version + 1, staged: Some(newest), newest, ..self.clone() }
    }

    /// With the staged generation in the main header.
    ///
    /// # Errors
    /// [`NothingStaged`]
    pub fn promote(&self, now: Timestamp) -> Result<Self, NothingStaged> {
        let staged = self.staged.ok_or(NothingStaged)?;
        let until = now.saturating_add(OVERLAP).unwrap_or(Timestamp::MAX);
        let version = self.version + 1;
        Ok(Self { version, current: staged, staged: None, previous: Some((self.current, until)), ..self.clone() })
    }

    /// Without the staged generation.
    ///
    /// # Errors
    /// [`NothingStaged`]
    pub fn discard(&self) -> Result<Self, NothingStaged> {
        self.staged.ok_or(NothingStaged)?;
        Ok(Self { version: self.version + 1, staged: None, ..self.clone() })
    }

    /// The generation that signs `X-Webhook-Signature-Previous` now.
    #[must_use]
    pub fn previous_at(&self, now: Timestamp) -> Option<u32> {
        self.previous.filter(|(_, until)| *until > now).map(|(generation, _)| generation)
    }

    /// Every generation that signs where several signatures may stand, the current one first.
    #[must_use]
    pub fn all_at(&self, now: Timestamp) -> Vec<u32> {
        let rest = [self.staged, self.previous_at(now)];
        std::iter::once(self.current).chain(rest.into_iter().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    /// G-25
    #[test]
    fn at_every_moment_of_a_rotation_old_and_new_secret_sign_together() {
        let first = Signing::default();
        assert_eq!((first.all_at(at(0)), first.promote(at(0))), (vec![0], Err(NothingStaged)));
        let staged = first.stage();
        assert_eq!((staged.current, staged.all_at(at(0))), (0, vec![0, 1]));
        assert_eq!(staged.stage(), staged, "asked twice, staged once");
        let promoted = staged.promote(at(1)).unwrap();
        assert_eq!((promoted.current, promoted.all_at(at(24)), promoted.previous_at(at(24))), (1, vec![1, 0], Some(0)));
        assert_eq!((promoted.all_at(at(25)), promoted.previous_at(at(25))), (vec![1], None));
        let again = promoted.stage();
        assert_eq!(again.all_at(at(2)), vec![1, 2, 0]);
        let dropped = again.discard().unwrap();
        assert_eq!((dropped.staged, dropped.stage().staged), (None, Some(3)), "a generation is never used twice");
        let versions = [first.version, staged.version, promoted.version, again.version, dropped.version];
        assert_eq!(versions, [0, 1, 2, 3, 4]);
    }
}
