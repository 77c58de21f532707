//! Reading a detector's answer.
//!
//! Owns: the boxes that the heads of a detector trained with Generalized Focal Loss mean (Li et al., 2020,
//! <https://arxiv.org/abs/2006.04388>): a side's distance is the mean of its distribution. Does not own: which of the
//! boxes are wanted (`choice`).

use super::found::{Found, Region};
use super::session::Answer;
use crate::model_picture::Inset;
use crate::registry::DetectorHead;

/// Less sure than this is noise; what is followed already may be this unsure.
const LEAST_SCORE: f32 = 0.15;
/// No frame has as many subjects; a bound on the work of a model gone wrong.
const MAX_FOUND: usize = 2000;

/// Boxes of one head, in the frame, of every noun: what is not wanted tells what is something else.
pub(super) fn read_head(
    head: &DetectorHead,
    [scores, sides]: [&Answer<'_>; 2],
    nouns: usize,
    inset: &Inset,
    found: &mut Vec<Found>,
) -> Result<(), String> {
    let (&[1, planes, height, width], &[1, side_planes, side_height, side_width]) = (scores.shape, sides.shape) else {
        return Err(format!("{} and {} are {:?} and {:?}", head.scores, head.sides, scores.shape, sides.shape));
    };
    let fits = [side_planes, side_height, side_width] == [4 * head.bins as i64, height, width];
    let (height, width) = (height.unsigned_abs() as usize, width.unsigned_abs() as usize);
    if !fits || planes != nouns as i64 {
        return Err(format!("{} and {} are {:?} and {:?}", head.scores, head.sides, scores.shape, sides.shape));
    }
    let places = height * width;
    for (noun, plane) in scores.values.chunks_exact(places).enumerate() {
        for (place, &score) in plane.iter().enumerate().filter(|(_, score)| **score >= LEAST_SCORE) {
            if found.len() >= MAX_FOUND {
                return Ok(());
            }
            let (x, y) = (((place % width) as f32 + 0.5), ((place / width) as f32 + 0.5));
            let [left, top, right, bottom] =
                std::array::from_fn(|side| distance(sides.values, side * head.bins, head.bins, places, place));
            let stride = head.stride as f32;
            let region = Region {
                left: (x - left) * stride,
                top: (y - top) * stride,
                right: (x + right) * stride,
                bottom: (y + bottom) * stride,
            };
            let region = inset.in_frame(region);
            found.push(Found { noun, score: score.min(1.0), region, is_rivalled: false });
        }
    }
    Ok(())
}

/// The mean of a softmax over bins, in strides.
fn distance(values: &[f32], first: usize, bins: usize, places: usize, place: usize) -> f32 {
    let logit = |bin: usize| values.get((first + bin) * places + place).copied().unwrap_or(0.0);
    let greatest = (0..bins).map(logit).fold(f32::MIN, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for bin in 0..bins {
        let weight = (logit(bin) - greatest).exp();
        sum += weight;
        weighted += weight * bin as f32;
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Size;
    use crate::registry::PictureFit;

    fn head() -> DetectorHead {
        DetectorHead { scores: "scores".into(), sides: "sides".into(), stride: 10, bins: 3 }
    }

    /// Two nouns on a grid of 2 × 2; noun 1 is at the lower left, one stride to each side.
    fn answers() -> (Vec<f32>, Vec<f32>) {
        let mut scores = vec![0.01; 8];
        scores[4 + 2] = 0.9;
        let mut sides = vec![-20.0; 4 * 3 * 4];
        for side in 0..4 {
            sides[(side * 3 + 1) * 4 + 2] = 20.0;
        }
        (scores, sides)
    }

    #[test]
    fn a_box_is_its_place_and_the_mean_distances_to_its_sides() {
        let (scores, sides) = answers();
        let (scores, sides) =
            (Answer { shape: &[1, 2, 2, 2], values: &scores }, Answer { shape: &[1, 12, 2, 2], values: &sides });
        let square = Size { width: 20, height: 20 };
        let inset = Inset::of(Size { width: 40, height: 40 }, square, PictureFit::Stretch);
        let mut found = Vec::new();
        read_head(&head(), [&scores, &sides], 2, &inset, &mut found).unwrap();
        let region = Region { left: -10.0, top: 10.0, right: 30.0, bottom: 50.0 };
        assert_eq!(found, [Found { noun: 1, score: 0.9, region, is_rivalled: false }]);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        let (scores, sides) = answers();
        let inset = Inset::of(Size { width: 2, height: 2 }, Size { width: 2, height: 2 }, PictureFit::Stretch);
        for shape in [&[1, 12, 2, 3][..], &[1, 11, 2, 2], &[12, 2, 2]] {
            let answers = [&Answer { shape: &[1, 2, 2, 2], values: &scores }, &Answer { shape, values: &sides }];
            assert!(read_head(&head(), answers, 2, &inset, &mut Vec::new()).is_err());
        }
        let answers =
            [&Answer { shape: &[1, 2, 2, 2], values: &scores }, &Answer { shape: &[1, 12, 2, 2], values: &sides }];
        assert!(read_head(&head(), answers, 3, &inset, &mut Vec::new()).is_err(), "a noun that it has not");
    }
}
