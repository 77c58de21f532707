//! How good a matte is, as far as that can be told without the truth.
//!
//! Owns: a score for each frame ([`Judge`]), what a job says of all of them ([`Quality`]). Frames are scored one by
//! one, so the scores of segments are put one after the other.
//! Flicker: the mean change of alpha from where a place was in the frame before to where it is now, as far as the
//! picture there is the same. Doubt: the model is unsure of whole areas and not only of edges, or it says something
//! else than in the frames around it, or the subject grows or shrinks all at once.

use rotoless_contract::media::Quality;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::frame::Size;
use crate::motion::Field;
use crate::refine::{Look, Unlike, likeness, move_along};
use crate::scaling::Scaler;

/// Frames that a job names at most.
const MOST_FRAMES: usize = 100;

/// Of what the subject covers, at which a frame is doubtful: areas of which the model is unsure.
const UNSURE_AREA: f32 = 0.15;
/// The same: what the frames around it decided otherwise.
const OVERRULED: f32 = 0.20;
/// The same: what came or went since the frame before.
const SUDDEN: f32 = 0.25;

/// Of the frame: a subject smaller than that is judged as if it were so large.
const LEAST_SUBJECT: f32 = 0.01;

/// Side of the cells in which the model is sure or not, px of the grid. An edge is narrower.
const CELL: usize = 4;

/// What is known of one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    /// Unexplained change of alpha since the frame before, 0..1; none where a scene starts.
    pub flicker: Option<f32>,
    /// From 1 on the frame is doubtful.
    pub doubt: f32,
}

/// What a job says of its frames.
pub(crate) fn summary(scores: &[Score]) -> Option<Quality> {
    if scores.is_empty() {
        return None;
    }
    let changes: Vec<f64> = scores.iter().filter_map(|score| score.flicker).map(f64::from).collect();
    let flicker = changes.iter().sum::<f64>() / changes.len().max(1) as f64;
    let mut doubtful: Vec<(u64, f32)> =
        (0..).zip(scores).filter(|(_, score)| score.doubt >= 1.0).map(|(frame, score)| (frame, score.doubt)).collect();
    doubtful.sort_by(|one, other| other.1.total_cmp(&one.1));
    doubtful.truncate(MOST_FRAMES);
    let mut low_confidence_frames: Vec<u64> = doubtful.into_iter().map(|(frame, _)| frame).collect();
    low_confidence_frames.sort_unstable();
    // Four digits: more of them would be noise.
    Some(Quality { flicker: (flicker * 1e4).round() / 1e4, low_confidence_frames })
}

/// What is carried from frame to frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct JudgeState {
    luma: Vec<u8>,
    alpha: Vec<u8>,
}

/// Scores frames of one size.
#[derive(Debug)]
pub(crate) struct Judge {
    grid: Size,
    scaler: Scaler,
    alpha: Vec<u8>,
    moved: JudgeState,
    unlike: Unlike,
}

impl Judge {
    pub(crate) fn new(grid: Size) -> Self {
        let moved = JudgeState::default();
        Self { grid, scaler: Scaler::default(), alpha: vec![0; grid.pixels()], moved, unlike: Unlike::default() }
    }

    /// Scores the next frame. `alpha` is what was made of it, `decided` what the frames around it made of the model's
    /// own matte in `look`, `to_past` is where its places were in the frame before.
    pub(crate) fn judge(
        &mut self,
        before: &mut JudgeState,
        frame: Size,
        alpha: &[u8],
        look: &Look,
        decided: &[f32],
        to_past: Option<&Field>,
    ) -> Result<Score, EngineError> {
        self.scaler.on_grid(frame, (alpha, frame), &mut self.alpha, self.grid)?;
        let pixels = self.grid.pixels() as f32;
        let covered = |alpha: &[u8]| alpha.iter().map(|&alpha| u32::from(alpha)).sum::<u32>() as f32 / 255.0;
        let covers = covered(&self.alpha);
        let subject = covers.max(LEAST_SUBJECT * pixels);
        let overruled: f32 = decided.iter().zip(&look.matte).map(|(decided, own)| (decided - own).abs()).sum();
        let mut doubt =
            (self.unsure_area(&look.matte) / (subject * UNSURE_AREA)).max(overruled / (subject * OVERRULED));
        let mut flicker = None;
        if let (Some(field), false) = (to_past, before.alpha.is_empty()) {
            let change = (covered(&before.alpha) - covers).abs();
            doubt = doubt.max(change / (subject * SUDDEN));
            flicker = Some(self.flicker(before, look, field) / pixels);
        }
        before.luma.clone_from(&look.luma);
        before.alpha.clone_from(&self.alpha);
        Ok(Score { flicker, doubt })
    }

    /// Sum of the changes that the picture does not explain, px.
    fn flicker(&mut self, before: &JudgeState, look: &Look, field: &Field) -> f32 {
        move_along(field, self.grid, &before.luma, &mut self.moved.luma);
        move_along(field, self.grid, &before.alpha, &mut self.moved.alpha);
        let unlike = self.unlike.measure(self.grid, &look.luma, &self.moved.luma);
        let changes = self.alpha.iter().zip(&self.moved.alpha).zip(unlike);
        changes.map(|((now, then), unlike)| f32::from(now.abs_diff(*then)) / 255.0 * likeness(*unlike)).sum()
    }

    /// How many px lie where the model is unsure of more than an edge.
    fn unsure_area(&self, matte: &[f32]) -> f32 {
        let width = self.grid.width;
        let mut area = 0.0;
        let mut sums = vec![0.0_f32; width / CELL];
        for rows in matte.chunks_exact(width * CELL) {
            sums.fill(0.0);
            for row in rows.chunks_exact(width) {
                for (sum, cell) in sums.iter_mut().zip(row.chunks_exact(CELL)) {
                    *sum += cell.iter().map(|&matte| 4.0 * matte * (1.0 - matte)).sum::<f32>();
                }
            }
            let cell = (CELL * CELL) as f32;
            area += sums.iter().filter(|&&sum| sum > cell / 2.0).count() as f32 * cell;
        }
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_names_its_most_doubtful_frames_in_order_and_not_too_many() {
        let scores: Vec<Score> =
            (0..300).map(|n| Score { flicker: (n > 0).then_some(0.01), doubt: n as f32 / 100.0 }).collect();
        let quality = summary(&scores).unwrap();
        assert_eq!(quality.low_confidence_frames, (200..300).collect::<Vec<u64>>());
        assert_eq!(quality.flicker, 0.01);
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn a_model_that_knows_nothing_is_doubtful_and_a_sharp_matte_is_not() {
        let size = Size { width: 64, height: 48 };
        let luma = vec![100; size.pixels()];
        let doubt = |matte: Vec<f32>| {
            let alpha: Vec<u8> = matte.iter().map(|value| (value * 255.0) as u8).collect();
            let look = Look { luma: luma.clone(), matte: matte.clone() };
            let mut state = JudgeState::default();
            Judge::new(size).judge(&mut state, size, &alpha, &look, &matte, None).unwrap().doubt
        };
        assert!(doubt((0..size.pixels()).map(|place| f32::from(place % 64 < 30)).collect()) < 0.5);
        assert!(doubt(vec![0.5; size.pixels()]) >= 1.0);
    }
}
