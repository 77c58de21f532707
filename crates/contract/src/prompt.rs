//! Prompts: the words by which a client chooses subjects, in a closed vocabulary.
//!
//! ```text
//! prompt  = phrase { ("," | ";" | "&" | "+" | "and") phrase }
//! phrase  = { article | place | colour } noun { article | place | colour }
//! ```
//! Owns: the grammar, the vocabulary of COCO ([`Vocabulary::coco`]), the error that says what is known.
//! Does not own: finding the subjects in a picture (`rotoless-matting`). Both the API and the worker parse with it, so
//! what was accepted is understood. Invariant: a [`Prompt`] has at least one subject.

mod coco;
mod words;

use std::fmt;

use self::words::{is_filler, singulars};

/// Subjects of one prompt; more is no choice any more.
const MAX_SUBJECTS: usize = 16;
/// Words of the longest noun ("baseball glove", "remote control").
const MAX_NOUN_WORDS: usize = 3;

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// In the order of the text, without repetitions; at least one.
    pub subjects: Vec<Subject>,
}

/// One phrase of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Index into the vocabulary's nouns.
    pub noun: usize,
    /// Which of several; without a place and a colour all of them are meant.
    pub place: Option<Place>,
    /// The colour that most of it must have.
    pub colour: Option<Colour>,
}

/// Which of several subjects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nearest to the left edge.
    Left,
    /// Nearest to the right edge.
    Right,
    /// Nearest to the middle of the picture.
    Centre,
    /// Nearest to the upper edge.
    Top,
    /// Nearest to the lower edge.
    Bottom,
    /// Covers most.
    Largest,
    /// Covers least.
    Smallest,
}

/// Colours that have a word of their own in most languages (Berlin and Kay, 1969).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Colour {
    Black,
    White,
    Grey,
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Brown,
}

/// Nouns that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    nouns: Vec<Noun>,
}

/// A noun and other words for it, in lower case and singular.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noun {
    name: String,
    synonyms: Vec<String>,
}

/// A prompt that cannot be understood. Its text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// A word that is neither noun nor place nor colour.
    #[error("`{word}` is not a subject that can be asked for. Known subjects: {known}. {GRAMMAR}")]
    Unknown {
        /// As written, cut to a sensible length.
        word: String,
        /// Every noun.
        known: String,
    },
    /// A phrase of places and colours only.
    #[error("`{phrase}` names no subject. Known subjects: {known}. {GRAMMAR}")]
    NoNoun {
        /// As written, cut to a sensible length.
        phrase: String,
        /// Every noun.
        known: String,
    },
    /// A phrase that says two things at once.
    #[error("`{phrase}` can be read in more than one way. {GRAMMAR}")]
    Ambiguous {
        /// As written, cut to a sensible length.
        phrase: String,
    },
    /// Nothing is asked for.
    #[error("the prompt names no subject. {GRAMMAR}")]
    Empty,
    /// Too much is asked for.
    #[error("a prompt may name at most {MAX_SUBJECTS} subjects")]
    TooMany,
}

const GRAMMAR: &str = "Separate several subjects by commas; each may have a place (left, right, centre, top, bottom, \
                       largest, smallest) and a colour (black, white, grey, red, orange, yellow, green, blue, purple, \
                       pink, brown)";

impl Vocabulary {
    /// The 80 nouns of COCO (Lin et al., "Microsoft COCO: Common Objects in Context", 2014), in the order in which
    /// detectors trained on it number their classes, with plain synonyms.
    #[must_use]
    pub fn coco() -> Self {
        Self::of(coco::NOUNS.iter().map(|(name, synonyms)| (*name, *synonyms)))
    }

    /// A vocabulary of names without synonyms, as a detector's own labels are.
    #[must_use]
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of(names.into_iter().map(|name| (name, &[][..])))
    }

    fn of<'a>(nouns: impl IntoIterator<Item = (&'a str, &'a [&'a str])>) -> Self {
        let noun = |(name, synonyms): (&str, &[&str])| Noun {
            name: name.trim().to_lowercase(),
            synonyms: synonyms.iter().map(|word| (*word).to_owned()).collect(),
        };
        Self { nouns: nouns.into_iter().map(noun).collect() }
    }

    /// How many nouns there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nouns.len()
    }

    /// Whether nothing can be asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nouns.is_empty()
    }

    /// The name of a noun.
    #[must_use]
    pub fn name(&self, noun: usize) -> Option<&str> {
        self.nouns.get(noun).map(|noun| noun.name.as_str())
    }

    /// Understands a prompt.
    ///
    /// # Errors
    /// A word is not known, a phrase has no noun or more than one meaning; the error lists what is known.
    pub fn parse(&self, text: &str) -> Result<Prompt, PromptError> {
        let mut subjects = Vec::new();
        for phrase in phrases(text) {
            let subject = self.phrase(&phrase)?;
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
            if subjects.len() > MAX_SUBJECTS {
                return Err(PromptError::TooMany);
            }
        }
        if subjects.is_empty() { Err(PromptError::Empty) } else { Ok(Prompt { subjects }) }
    }

    fn phrase(&self, words: &[String]) -> Result<Subject, PromptError> {
        let ambiguous = || PromptError::Ambiguous { phrase: shown(&words.join(" ")) };
        let (mut noun, mut place, mut colour) = (None, None, None);
        let mut rest = words;
        while let Some((word, after)) = rest.split_first() {
            // Nouns first: "orange" alone is a fruit, before another noun a colour.
            if let Some((found, length)) = self.noun_at(rest)
                && !(Colour::of(word).is_some() && self.names_one_later(after))
            {
                if noun.replace(found).is_some() {
                    return Err(ambiguous());
                }
                rest = rest.get(length..).unwrap_or_default();
                continue;
            }
            if let Some(found) = Place::of(word) {
                if place.replace(found).is_some_and(|before| before != found) {
                    return Err(ambiguous());
                }
            } else if let Some(found) = Colour::of(word) {
                if colour.replace(found).is_some_and(|before| before != found) {
                    return Err(ambiguous());
                }
            } else if !is_filler(word) {
                return Err(PromptError::Unknown { word: shown(word), known: self.known() });
            }
            rest = after;
        }
        let phrase = || shown(&words.join(" "));
        let noun = noun.ok_or_else(|| PromptError::NoNoun { phrase: phrase(), known: self.known() })?;
        Ok(Subject { noun, place, colour })
    }

    /// The longest noun at the beginning of these words, and how many of them it takes.
    fn noun_at(&self, words: &[String]) -> Option<(usize, usize)> {
        (1..=words.len().min(MAX_NOUN_WORDS)).rev().find_map(|length| {
            let written = words.get(..length)?.join(" ");
            let found = singulars(&written).find_map(|name| self.index_of(&name))?;
            Some((found, length))
        })
    }

    fn names_one_later(&self, words: &[String]) -> bool {
        (0..words.len()).any(|start| words.get(start..).and_then(|rest| self.noun_at(rest)).is_some())
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        let is_it = |noun: &Noun| noun.name == name || noun.synonyms.iter().any(|word| word == name);
        self.nouns.iter().position(is_it)
    }

    fn known(&self) -> String {
        self.nouns.iter().map(|noun| noun.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Place {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "left" | "leftmost" | "lefthand" => Self::Left,
            "right" | "rightmost" | "righthand" => Self::Right,
            "centre" | "center" | "middle" | "central" => Self::Centre,
            "top" | "upper" | "topmost" => Self::Top,
            "bottom" | "lower" | "lowest" => Self::Bottom,
            "largest" | "biggest" | "large" | "big" | "main" => Self::Largest,
            "smallest" | "small" | "little" | "tiny" => Self::Smallest,
            _ => return None,
        })
    }
}

impl Colour {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "black" => Self::Black,
            "white" => Self::White,
            "grey" | "gray" | "silver" => Self::Grey,
            "red" => Self::Red,
            "orange" => Self::Orange,
            "yellow" | "gold" | "golden" => Self::Yellow,
            "green" => Self::Green,
            "blue" => Self::Blue,
            "purple" | "violet" => Self::Purple,
            "pink" => Self::Pink,
            "brown" => Self::Brown,
            _ => return None,
        })
    }
}

/// Phrases as lists of lower-case words. Empty ones are left out.
fn phrases(text: &str) -> impl Iterator<Item = Vec<String>> {
    let text = text.to_lowercase();
    let parts: Vec<Vec<String>> = text
        .split([',', ';', '&', '+', '\n'])
        .flat_map(|part| {
            let words: Vec<&str> = part.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            words
                .split(|word| *word == "and")
                .map(|words| words.iter().map(|word| (*word).to_owned()).collect())
                .collect::<Vec<_>>()
        })
        .filter(|words: &Vec<String>| !words.is_empty())
        .collect();
    parts.into_iter()
}

/// Of a client's text, what an error repeats.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.known())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, place, colour.
    type Asked = (String, Option<Place>, Option<Colour>);

    fn parsed(text: &str) -> Result<Vec<Asked>, PromptError> {
        let coco = Vocabulary::coco();
        let name = |subject: &Subject| coco.name(subject.noun).unwrap_or_default().to_owned();
        let prompt = coco.parse(text)?;
        Ok(prompt.subjects.iter().map(|subject| (name(subject), subject.place, subject.colour)).collect())
    }

    fn only(name: &str) -> Asked {
        (name.to_owned(), None, None)
    }

    #[test]
    fn coco_has_its_eighty_nouns_in_the_detectors_order() {
        let coco = Vocabulary::coco();
        assert_eq!(coco.len(), 80);
        for (index, name) in [(0, "person"), (14, "bird"), (16, "dog"), (56, "chair"), (79, "toothbrush")] {
            assert_eq!(coco.name(index), Some(name));
        }
    }

    #[test]
    fn no_word_means_two_nouns() {
        let coco = Vocabulary::coco();
        let words = coco.nouns.iter().flat_map(|noun| std::iter::once(&noun.name).chain(&noun.synonyms));
        let mut words: Vec<_> = words.collect();
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count);
    }

    #[test]
    fn plain_words_synonyms_and_plurals_are_understood() {
        for (text, name) in [
            ("dog", "dog"),
            ("The Dogs.", "dog"),
            ("people", "person"),
            ("a woman", "person"),
            ("puppies", "dog"),
            ("traffic lights", "traffic light"),
            ("knives", "knife"),
            ("buses", "bus"),
            ("cell phone", "cell phone"),
            ("smartphone", "cell phone"),
            ("sofa", "couch"),
            ("rooster", "bird"),
            ("orange", "orange"),
        ] {
            assert_eq!(parsed(text).unwrap(), [only(name)], "{text}");
        }
    }

    #[test]
    fn several_subjects_are_separated_by_commas_or_and() {
        let both = [only("dog"), only("bird")];
        for text in ["dog, bird", "dog and bird", "dog,bird,dogs", "the dog & a bird", " ,dog;bird,"] {
            assert_eq!(parsed(text).unwrap(), both, "{text}");
        }
    }

    #[test]
    fn places_and_colours_choose_among_them() {
        let left_dog = ("dog".to_owned(), Some(Place::Left), None);
        for text in ["left dog", "the dog on the left side"] {
            assert_eq!(parsed(text).unwrap(), std::slice::from_ref(&left_dog), "{text}");
        }
        assert_eq!(parsed("biggest red car").unwrap(), [("car".to_owned(), Some(Place::Largest), Some(Colour::Red))]);
        assert_eq!(parsed("orange cat").unwrap(), [("cat".to_owned(), None, Some(Colour::Orange))]);
        assert_eq!(parsed("person in the middle").unwrap(), [("person".to_owned(), Some(Place::Centre), None)]);
    }

    #[test]
    fn what_is_not_known_is_answered_with_what_is() {
        let error = parsed("dog, unicorn").unwrap_err();
        assert!(matches!(&error, PromptError::Unknown { word, .. } if word == "unicorn"));
        let text = error.to_string();
        assert!(text.contains("toothbrush") && text.contains("largest") && text.contains("brown"), "{text}");
        assert!(matches!(parsed("left red"), Err(PromptError::NoNoun { .. })));
        assert!(matches!(parsed("dog cat"), Err(PromptError::Ambiguous { .. })));
        assert!(matches!(parsed("left right dog"), Err(PromptError::Ambiguous { .. })));
        assert_eq!(parsed(" , "), Err(PromptError::Empty));
    }

    #[test]
    fn a_prompt_of_any_bytes_is_answered() {
        for text in ["\0", "🦄", "a\u{301}", "dog\u{200b}", "';--", "{\"x\":1}", &"dog ".repeat(200), &"é".repeat(500)]
        {
            let _ = parsed(text);
        }
        let many = (0..40).map(|_| "left dog, right cat, red car").collect::<Vec<_>>().join(",");
        assert_eq!(parsed(&many).unwrap().len(), 3);
    }
}
