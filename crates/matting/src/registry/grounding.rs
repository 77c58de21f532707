//! Entries of the family grounded: how subjects are found by a text, and which model makes their matte.

use rotoless_contract::prompt::Vocabulary;
use serde::Deserialize;

use super::findings::Findings;
use super::raw::activation;
use super::{Activation, Family, InstalledFile, ModelEntry, Problem};

/// Labels of one detector.
const MAX_LABELS: usize = 10_000;
const MAX_LABEL_CHARS: usize = 60;
const MAX_HEADS: usize = 8;
/// Places of a side's distribution, and tokens of a text.
const MAX_BINS: usize = 256;
const MAX_TOKENS: usize = 4096;

/// How a text chooses subjects.
#[derive(Debug, Clone, PartialEq)]
pub struct Grounding {
    /// Name of the entry, of the family still, that makes the matte of a region.
    pub matte: String,
    /// What finds the regions.
    pub finder: Finder,
}

/// What finds the regions of subjects.
#[derive(Debug, Clone, PartialEq)]
pub enum Finder {
    /// A detector of a fixed set of nouns.
    Detector {
        /// In the order of its classes.
        vocabulary: Vocabulary,
        /// One a size of subjects.
        heads: Vec<DetectorHead>,
    },
    /// A model that is fed the text and answers where in the picture it is meant: any words (the shape of `CLIPSeg`,
    /// Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts", 2022).
    HeatMap {
        /// Name of the output: one channel, any size, the picture's shape.
        output: String,
        /// What makes 0..1 of it.
        activation: Activation,
        /// How the text is fed.
        words: Words,
    },
}

/// One output level of a detector trained with Generalized Focal Loss (Li et al., 2020), as `NanoDet` is: for each
/// place of a grid a score a noun, and for each side of the box a distribution over its distance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectorHead {
    /// Name of the output `[1, nouns, height, width]`, 0..1.
    pub scores: String,
    /// Name of the output `[1, 4 · bins, height, width]`, logits: left, top, right, bottom.
    pub sides: String,
    /// Pixels of the model's picture between two places of the grid.
    pub stride: u32,
    /// Places of a distribution; bin `n` stands for a distance of `n` strides.
    pub bins: usize,
}

/// How a text is fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// `tokenizer.json` of Hugging Face's tokenizers.
    pub tokenizer: InstalledFile,
    /// Name of the i64 input `[1, length]`.
    pub ids: String,
    /// Name of the i64 input `[1, length]`, 1 where a token is.
    pub mask: String,
    /// Tokens that are fed; shorter texts are padded, longer ones cut.
    pub length: usize,
}

impl Grounding {
    pub(super) const fn tokenizer(&self) -> Option<&InstalledFile> {
        match &self.finder {
            Finder::HeatMap { words, .. } => Some(&words.tokenizer),
            Finder::Detector { .. } => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrounding {
    matte: Option<String>,
    vocabulary: Option<String>,
    labels: Option<Vec<String>>,
    #[serde(default)]
    head: Vec<RawHead>,
    heat: Option<String>,
    activation: Option<String>,
    words: Option<RawWords>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHead {
    scores: Option<String>,
    sides: Option<String>,
    stride: Option<u32>,
    bins: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWords {
    file: Option<String>,
    sha256: Option<String>,
    ids: Option<String>,
    mask: Option<String>,
    length: Option<usize>,
}

pub(super) fn parse(raw: RawGrounding, found: &mut Findings<'_>) -> Option<Grounding> {
    let matte = found.text("grounding.matte", raw.matte, "the name of a model", |_| true);
    let finder = match (raw.heat, raw.words) {
        (None, None) => detector(raw.vocabulary, raw.labels, raw.head, found),
        (heat, words) => {
            if raw.vocabulary.is_some() || raw.labels.is_some() || !raw.head.is_empty() {
                found.add("grounding.heat", "and words go without vocabulary, labels and head");
            }
            let output = found.name_of_tensor("grounding.heat", heat);
            let activation = activation("grounding.activation", raw.activation.as_deref(), found);
            let words = found.required("grounding.words", words).and_then(|words| self::words(words, found));
            match (output, activation, words) {
                (Some(output), Some(activation), Some(words)) => Some(Finder::HeatMap { output, activation, words }),
                (_, _, _) => None,
            }
        }
    };
    Some(Grounding { matte: matte?, finder: finder? })
}

fn detector(
    vocabulary: Option<String>,
    labels: Option<Vec<String>>,
    heads: Vec<RawHead>,
    found: &mut Findings<'_>,
) -> Option<Finder> {
    let vocabulary = match (vocabulary.as_deref(), labels) {
        (Some("coco"), None) => Some(Vocabulary::coco()),
        (None, Some(labels)) if is_sensible(&labels) => Some(Vocabulary::of_names(labels.iter().map(String::as_str))),
        (None, Some(_)) => {
            found.add("grounding.labels", format!("must be 1 to {MAX_LABELS} short words"));
            None
        }
        (_, _) => {
            found.add("grounding.vocabulary", "must be coco, unless there are labels");
            None
        }
    };
    if heads.is_empty() || heads.len() > MAX_HEADS {
        found.add("grounding.head", format!("must be 1 to {MAX_HEADS}"));
    }
    let heads = heads.into_iter().map(|head| self::head(head, found)).collect::<Vec<_>>();
    Some(Finder::Detector { vocabulary: vocabulary?, heads: heads.into_iter().collect::<Option<_>>()? })
}

fn is_sensible(labels: &[String]) -> bool {
    let is_word = |label: &String| !label.trim().is_empty() && label.chars().count() <= MAX_LABEL_CHARS;
    (1..=MAX_LABELS).contains(&labels.len()) && labels.iter().all(is_word)
}

fn head(raw: RawHead, found: &mut Findings<'_>) -> Option<DetectorHead> {
    let scores = found.name_of_tensor("grounding.head.scores", raw.scores);
    let sides = found.name_of_tensor("grounding.head.sides", raw.sides);
    let stride = found.required("grounding.head.stride", raw.stride);
    let bins = found.required("grounding.head.bins", raw.bins);
    if stride.is_some_and(|stride| !(1..=1024).contains(&stride)) {
        found.add("grounding.head.stride", "must be 1 to 1024");
    }
    if bins.is_some_and(|bins| !(2..=MAX_BINS).contains(&bins)) {
        found.add("grounding.head.bins", format!("must be 2 to {MAX_BINS}"));
    }
    Some(DetectorHead { scores: scores?, sides: sides?, stride: stride?, bins: bins? })
}

fn words(raw: RawWords, found: &mut Findings<'_>) -> Option<Words> {
    let tokenizer = found.file(raw.file, raw.sha256);
    let ids = found.name_of_tensor("grounding.words.ids", raw.ids);
    let mask = found.name_of_tensor("grounding.words.mask", raw.mask);
    let length = found.required("grounding.words.length", raw.length);
    if length.is_some_and(|length| !(2..=MAX_TOKENS).contains(&length)) {
        found.add("grounding.words.length", format!("must be 2 to {MAX_TOKENS}"));
    }
    Some(Words { tokenizer: tokenizer?, ids: ids?, mask: mask?, length: length? })
}

/// Entries whose matte is to be made by a model that is not there, or that cannot.
pub(super) fn dangling(models: &[ModelEntry]) -> Vec<Problem> {
    let is_still = |name: &str| models.iter().any(|other| other.name == name && other.family() == Family::Still);
    let grounded = models.iter().filter_map(|entry| match &entry.work {
        super::Work::Ground(grounding) => Some((entry, grounding)),
        super::Work::Matte(_) => None,
    });
    grounded
        .filter(|(_, grounding)| !is_still(&grounding.matte))
        .map(|(entry, grounding)| Problem {
            entry: format!("model {}", entry.name),
            field: "grounding.matte".to_owned(),
            what: format!("{} is no model of the family still", grounding.matte),
        })
        .collect()
}
