//! Finding subjects by any words: a model that is fed tokens beside the picture answers with a heat map.
//!
//! Owns: the text's tokens, the regions of a heat map. Each phrase between commas is one text and one run of the model.

use std::path::Path;

use rotoless_contract::prompt::Subject;
use tokenizers::{PaddingDirection, PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

use super::found::{Found, Region, distinct};
use super::network::activated;
use super::session::{Feed, Network, Numbers, Run};
use crate::error::{EngineError, Unsupported};
use crate::frame::Size;
use crate::model_picture::Inset;
use crate::registry::{Activation, Words};

/// Phrases of one prompt: each costs a run a frame.
const MAX_PHRASES: usize = 8;
/// What is at least so warm belongs to a subject.
const WARM: f32 = 0.4;
/// Of the map, what a spot must cover to be more than noise.
const LEAST_SHARE: f32 = 0.0005;
/// A tokenizer's file is a few megabytes.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The finder and the phrases of the job.
pub(super) struct HeatMapFinder {
    output: String,
    activation: Activation,
    words: Words,
    tokenizer: Tokenizer,
    phrases: Vec<Tokens>,
}

struct Tokens {
    ids: Vec<i64>,
    mask: Vec<i64>,
}

impl HeatMapFinder {
    pub(super) fn load(
        model: &str,
        output: &str,
        activation: Activation,
        words: &Words,
        models_dir: &Path,
    ) -> Result<Self, EngineError> {
        let failed = |detail: String| EngineError::Model { model: model.to_owned(), detail };
        let path = words.tokenizer.path(models_dir);
        let size = std::fs::metadata(&path).map_err(EngineError::io("cannot read the tokenizer"))?.len();
        if size > MAX_TOKENIZER_BYTES {
            return Err(failed(format!("its tokenizer has {size} bytes")));
        }
        let mut tokenizer = Tokenizer::from_file(&path).map_err(|error| failed(error.to_string()))?;
        let length = words.length;
        let (pad_id, pad_token) = padding(&tokenizer);
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(length),
            direction: PaddingDirection::Right,
            pad_id,
            pad_token,
            ..PaddingParams::default()
        }));
        tokenizer
            .with_truncation(Some(TruncationParams { max_length: length, ..TruncationParams::default() }))
            .map_err(|error| failed(error.to_string()))?;
        let (output, words) = (output.to_owned(), words.clone());
        Ok(Self { output, activation, words, tokenizer, phrases: Vec::new() })
    }

    /// Takes the phrases of a job; each is a subject, all of whose spots are meant.
    pub(super) fn begin(&mut self, text: &str) -> Result<Vec<Subject>, EngineError> {
        let refused = |detail: &str| Unsupported::Prompt(detail.to_owned());
        let phrases: Vec<&str> = text.split(',').map(str::trim).filter(|phrase| !phrase.is_empty()).collect();
        if phrases.is_empty() || phrases.len() > MAX_PHRASES {
            return Err(refused(&format!("a prompt must name 1 to {MAX_PHRASES} subjects")).into());
        }
        let tokens = |phrase: &&str| {
            let encoding = self.tokenizer.encode(*phrase, true).map_err(|_| refused("the prompt cannot be read"))?;
            let numbers = |values: &[u32]| values.iter().map(|&value| i64::from(value)).collect::<Vec<_>>();
            let tokens = Tokens { ids: numbers(encoding.get_ids()), mask: numbers(encoding.get_attention_mask()) };
            if tokens.ids.len() == self.words.length { Ok(tokens) } else { Err(refused("the prompt cannot be read")) }
        };
        self.phrases = phrases.iter().map(tokens).collect::<Result<_, _>>()?;
        Ok((0..self.phrases.len()).map(|noun| Subject { noun, place: None, colour: None }).collect())
    }

    pub(super) fn find(&self, network: &mut Network, picture: Feed<'_>, inset: &Inset) -> Result<Vec<Found>, String> {
        let mut found = Vec::new();
        let shape = [1, self.words.length];
        let Feed { name, shape: picture_shape, values } = picture;
        let Numbers::Floats(values) = values else { return Err("its picture is of integers".to_owned()) };
        for (noun, Tokens { ids, mask }) in self.phrases.iter().enumerate() {
            let feeds = [
                Feed { name, shape: picture_shape, values: Numbers::Floats(values) },
                Feed { name: &self.words.ids, shape: &shape, values: Numbers::Integers(ids) },
                Feed { name: &self.words.mask, shape: &shape, values: Numbers::Integers(mask) },
            ];
            let run = Run { feeds: &feeds, carried_in: Vec::new(), carried_out: &[], read: &[&self.output] };
            let (spots, _) = network
                .run(run, |answers| {
                    let [answer] = answers else { return Err("it did not answer".to_owned()) };
                    let size = map_size(answer.shape).filter(|size| size.pixels() == answer.values.len());
                    let size = size.ok_or_else(|| format!("its heat map has shape {:?}", answer.shape))?;
                    let heat: Vec<f32> = answer.values.iter().map(|&value| activated(value, self.activation)).collect();
                    Ok(spots(&heat, size, noun, inset))
                })
                .map_err(|error| error.to_string())?;
            found.extend(spots?);
        }
        Ok(distinct(found))
    }
}

/// What fills up short texts: the tokenizer's own padding, else its last special token, as CLIP has it.
fn padding(tokenizer: &Tokenizer) -> (u32, String) {
    if let Some(own) = tokenizer.get_padding() {
        return (own.pad_id, own.pad_token.clone());
    }
    let token = ["<pad>", "[PAD]", "<|endoftext|>", "!"];
    token.iter().find_map(|token| Some((tokenizer.token_to_id(token)?, (*token).to_owned()))).unwrap_or_default()
}

/// `[height, width]`, whatever axes of one are before them.
fn map_size(shape: &[i64]) -> Option<Size> {
    let (rest, [height, width]) = shape.split_last_chunk::<2>()?;
    let side = |side: i64| usize::try_from(side).ok().filter(|side| (1..=8192).contains(side));
    let size = Size { width: side(*width)?, height: side(*height)? };
    rest.iter().all(|side| *side == 1).then_some(size)
}

/// The boxes of connected warm places, as sure as their warmest.
fn spots(heat: &[f32], size: Size, noun: usize, inset: &Inset) -> Vec<Found> {
    let mut seen = vec![false; heat.len()];
    let mut found = Vec::new();
    let least = (size.pixels() as f32 * LEAST_SHARE).max(1.0);
    for start in 0..heat.len() {
        if seen.get(start).copied().unwrap_or(true) || heat.get(start).is_none_or(|warmth| *warmth < WARM) {
            continue;
        }
        let spot = flood(heat, size, start, &mut seen);
        if spot.places as f32 >= least {
            let (x, y) =
                (inset.picture.width as f32 / size.width as f32, inset.picture.height as f32 / size.height as f32);
            let region = Region {
                left: spot.left as f32 * x,
                top: spot.top as f32 * y,
                right: (spot.right + 1) as f32 * x,
                bottom: (spot.bottom + 1) as f32 * y,
            };
            found.push(Found { noun, score: spot.warmest, region: inset.in_frame(region), is_rivalled: false });
        }
    }
    found
}

struct Spot {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    places: usize,
    warmest: f32,
}

fn flood(heat: &[f32], size: Size, start: usize, seen: &mut [bool]) -> Spot {
    let (x, y) = (start % size.width, start / size.width);
    let mut spot = Spot { left: x, top: y, right: x, bottom: y, places: 0, warmest: 0.0 };
    let mut open = vec![start];
    while let Some(place) = open.pop() {
        let (Some(seen), Some(&warmth)) = (seen.get_mut(place), heat.get(place)) else { continue };
        if *seen || warmth < WARM {
            continue;
        }
        *seen = true;
        let (x, y) = (place % size.width, place / size.width);
        spot = Spot {
            left: spot.left.min(x),
            top: spot.top.min(y),
            right: spot.right.max(x),
            bottom: spot.bottom.max(y),
            places: spot.places + 1,
            warmest: spot.warmest.max(warmth),
        };
        let beside = [(x > 0, place.wrapping_sub(1)), (x + 1 < size.width, place + 1)];
        let above = [(y > 0, place.wrapping_sub(size.width)), (y + 1 < size.height, place + size.width)];
        open.extend(beside.into_iter().chain(above).filter(|(is_there, _)| *is_there).map(|(_, place)| place));
    }
    spot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::PictureFit;

    #[test]
    fn each_warm_spot_is_found_and_noise_is_not() {
        let size = Size { width: 100, height: 50 };
        let mut heat = vec![0.1; size.pixels()];
        for (row, column) in (10..20).flat_map(|row| (5..25).map(move |column| (row, column))) {
            heat[row * 100 + column] = 0.6;
        }
        heat[12 * 100 + 7] = 0.9;
        for (row, column) in (30..45).flat_map(|row| (70..80).map(move |column| (row, column))) {
            heat[row * 100 + column] = 0.5;
        }
        heat[99] = 0.9;
        let picture = Size { width: 200, height: 100 };
        let inset = Inset::of(Size { width: 400, height: 200 }, picture, PictureFit::Stretch);
        let found = spots(&heat, size, 3, &inset);
        let region = |left, top, right, bottom| Region { left, top, right, bottom };
        let expected = [
            Found { noun: 3, score: 0.9, region: region(20.0, 40.0, 100.0, 80.0), is_rivalled: false },
            Found { noun: 3, score: 0.5, region: region(280.0, 120.0, 320.0, 180.0), is_rivalled: false },
        ];
        assert_eq!(found, expected);
    }
}
