//! What a prompt may say: as much as the workers' model understands.

use std::str::FromStr;

use rotoless_contract::prompt::{PromptError, Vocabulary};

/// The words that workers understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompts {
    /// These nouns; others are refused when the job is created.
    Closed(Vocabulary),
    /// Any words.
    Open,
}

impl Default for Prompts {
    fn default() -> Self {
        Self::Closed(Vocabulary::coco())
    }
}

impl Prompts {
    /// Whether workers will understand a prompt.
    ///
    /// # Errors
    /// They will not; the text is for the client.
    pub fn check(&self, text: &str) -> Result<(), PromptError> {
        match self {
            Self::Closed(vocabulary) => vocabulary.parse(text).map(drop),
            Self::Open => Ok(()),
        }
    }
}

/// Not one of `coco`, `any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be coco or any")]
pub struct UnknownPrompts;

impl FromStr for Prompts {
    type Err = UnknownPrompts;

    fn from_str(text: &str) -> Result<Self, UnknownPrompts> {
        match text {
            "coco" => Ok(Self::default()),
            "any" => Ok(Self::Open),
            _ => Err(UnknownPrompts),
        }
    }
}
