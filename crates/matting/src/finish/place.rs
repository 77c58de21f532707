//! The foreground's place on a canvas of another size.
//!
//! Owns: where the source lies on the canvas, drawing it there. Invariants: only what is seen is drawn, so memory is
//! the canvas's whatever the scale; luma and alpha lie at the very pixel, chroma (which has half of the pixels) within
//! half of one of its own; what is outside stays under alpha 0.

use rotoless_contract::spec::{Anchor, Composition};

use crate::error::EngineError;
use crate::frame::{Frame, Planes, Size};
use crate::scaling::{Area, Scaler};

/// Where on the canvas the source lies, px. It may reach over the edges, or lie outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    pub canvas: Size,
    x: i64,
    y: i64,
    width: i64,
    height: i64,
}

/// A range of pixels of one dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    /// On the canvas.
    from: usize,
    to: usize,
    /// Of the source.
    first: f64,
    length: f64,
}

impl Placement {
    pub(crate) fn of(composition: &Composition, source: Size) -> Self {
        let canvas = Size { width: composition.width as usize, height: composition.height as usize };
        let (width, height) = (source.width as f64, source.height as f64);
        // 1 is as large as fits.
        let scale = (canvas.width as f64 / width).min(canvas.height as f64 / height) * composition.scale;
        #[expect(clippy::cast_possible_truncation, reason = "at most 16 canvases; saturates")]
        let scaled = |side: f64| ((side * scale).round() as i64).max(1);
        let (width, height) = (scaled(width), scaled(height));
        let (horizontal, vertical) = halves(composition.anchor);
        let [right, down] = composition.offset;
        Self {
            canvas,
            x: (canvas.width as i64 - width) * horizontal / 2 + i64::from(right),
            y: (canvas.height as i64 - height) * vertical / 2 + i64::from(down),
            width,
            height,
        }
    }
}

/// 0 for left or top, 1 for the middle, 2 for right or bottom.
const fn halves(anchor: Anchor) -> (i64, i64) {
    match anchor {
        Anchor::TopLeft => (0, 0),
        Anchor::TopCenter => (1, 0),
        Anchor::TopRight => (2, 0),
        Anchor::CenterLeft => (0, 1),
        Anchor::Center => (1, 1),
        Anchor::CenterRight => (2, 1),
        Anchor::BottomLeft => (0, 2),
        Anchor::BottomCenter => (1, 2),
        Anchor::BottomRight => (2, 2),
    }
}

/// What of a source of `source` px, `length` px long on the canvas and `at` px from its edge, is seen on a canvas of
/// `canvas` px, when every `step` px of both are one pixel of the plane at hand.
fn span(at: i64, length: i64, source: usize, canvas: usize, step: i64) -> Option<Span> {
    let canvas = canvas as i64;
    let (from, to) = (at.max(0), (at + length).min(canvas));
    if from >= to {
        return None;
    }
    // Outwards: an edge pixel of chroma belongs to whoever covers a part of it.
    let (from, to) = (from / step, (to + step - 1) / step);
    let per_pixel = source as f64 / length as f64;
    let of_source = |place: i64| ((place * step - at) as f64 * per_pixel).clamp(0.0, source as f64) / step as f64;
    let first = of_source(from);
    Some(Span { from: from as usize, to: to as usize, first, length: of_source(to) - first })
}

/// Draws frames of one size on a canvas.
#[derive(Debug)]
pub(super) struct Placer {
    source: Size,
    placement: Placement,
    scaler: Scaler,
    drawn: Vec<u8>,
    canvas: Frame,
}

impl Placer {
    pub(super) fn new(source: Size, placement: Placement) -> Self {
        let canvas = Frame::new(placement.canvas);
        Self { source, placement, scaler: Scaler::default(), drawn: Vec::new(), canvas }
    }

    /// The canvas with the frame on it. Outside of the frame there is nothing, under alpha 0.
    pub(super) fn place(&mut self, planes: &Planes<'_>) -> Result<&mut Frame, EngineError> {
        let Self { source, placement: Placement { canvas: size, x, y, width, height }, scaler, drawn, canvas } = self;
        let (canvas_planes, _) = canvas.planes_and_matte();
        let layers = [
            (&*planes.y, canvas_planes.y, 1),
            (&*planes.u, canvas_planes.u, 2),
            (&*planes.v, canvas_planes.v, 2),
            (&*planes.alpha, canvas_planes.alpha, 1),
        ];
        for (from, to, step) in layers {
            let columns = span(*x, *width, source.width, size.width, step);
            let rows = span(*y, *height, source.height, size.height, step);
            // Out of sight: alpha is 0 everywhere, as it was made.
            let (Some(columns), Some(rows)) = (columns, rows) else { continue };
            let halved = |side: usize| side / step as usize;
            let from_size = Size { width: halved(source.width), height: halved(source.height) };
            let part = Size { width: columns.to - columns.from, height: rows.to - rows.from };
            let area = Area { left: columns.first, top: rows.first, width: columns.length, height: rows.length };
            drawn.resize(part.pixels(), 0);
            scaler.area(from, from_size, area, drawn, part)?;
            let target = to.chunks_exact_mut(halved(size.width)).skip(rows.from);
            for (row, out) in drawn.chunks_exact(part.width).zip(target) {
                out[columns.from..columns.to].copy_from_slice(row);
            }
        }
        Ok(canvas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Size = Size { width: 64, height: 32 };

    fn placement(anchor: Anchor, scale: f64, offset: [i32; 2]) -> Placement {
        Placement::of(&Composition { width: 200, height: 200, anchor, scale, offset }, SOURCE)
    }

    #[test]
    fn a_scale_of_one_is_as_large_as_fits() {
        let found = placement(Anchor::Center, 1.0, [0, 0]);
        assert_eq!((found.x, found.y, found.width, found.height), (0, 50, 200, 100));
        let wide = Composition { width: 400, height: 50, anchor: Anchor::Center, scale: 1.0, offset: [0, 0] };
        let found = Placement::of(&wide, SOURCE);
        assert_eq!((found.x, found.y, found.width, found.height), (150, 0, 100, 50));
    }

    #[test]
    fn every_anchor_lies_at_its_side_and_the_offset_moves_it() {
        let at = |anchor, offset| {
            let found = placement(anchor, 0.5, offset);
            (found.x, found.y)
        };
        assert_eq!(at(Anchor::TopLeft, [0, 0]), (0, 0));
        assert_eq!(at(Anchor::TopCenter, [0, 0]), (50, 0));
        assert_eq!(at(Anchor::TopRight, [0, 0]), (100, 0));
        assert_eq!(at(Anchor::CenterLeft, [0, 0]), (0, 75));
        assert_eq!(at(Anchor::Center, [0, 0]), (50, 75));
        assert_eq!(at(Anchor::CenterRight, [0, 0]), (100, 75));
        assert_eq!(at(Anchor::BottomLeft, [0, 0]), (0, 150));
        assert_eq!(at(Anchor::BottomCenter, [0, 0]), (50, 150));
        assert_eq!(at(Anchor::BottomRight, [-3, 7]), (97, 157));
    }

    /// A frame of one grey, opaque.
    fn grey() -> Frame {
        let mut frame = Frame::new(SOURCE);
        let (planes, _) = frame.planes_and_matte();
        planes.y.fill(90);
        planes.u.fill(100);
        planes.v.fill(110);
        planes.alpha.fill(255);
        frame
    }

    /// The box that alpha covers: left, top, right, bottom; and that it is whole.
    fn covered(canvas: &mut Frame) -> Option<[usize; 4]> {
        let (planes, _) = canvas.planes_and_matte();
        let places: Vec<usize> = (0..planes.alpha.len()).filter(|&place| planes.alpha[place] > 0).collect();
        let (xs, ys) = (places.iter().map(|place| place % 200), places.iter().map(|place| place / 200));
        let found = [xs.clone().min()?, ys.clone().min()?, xs.max()? + 1, ys.max()? + 1];
        assert_eq!(places.len(), (found[2] - found[0]) * (found[3] - found[1]));
        assert!(places.iter().all(|&place| planes.alpha[place] == 255 && planes.y[place] == 90));
        assert!(places.iter().all(|&place| planes.u[place / 200 / 2 * 100 + place % 200 / 2] == 100));
        Some(found)
    }

    #[test]
    fn the_foreground_lies_at_the_very_pixel_and_is_cut_at_the_edges() {
        for (anchor, scale, offset, expected) in [
            (Anchor::Center, 1.0, [0, 0], Some([0, 50, 200, 150])),
            (Anchor::TopLeft, 0.5, [3, 5], Some([3, 5, 103, 55])),
            (Anchor::BottomRight, 0.5, [1, -1], Some([101, 149, 200, 199])),
            (Anchor::Center, 16.0, [0, 0], Some([0, 0, 200, 200])),
            (Anchor::TopLeft, 0.5, [-99, -49], Some([0, 0, 1, 1])),
            (Anchor::TopLeft, 0.5, [-100, 0], None),
            (Anchor::TopLeft, 1.0, [8192, 8192], None),
            (Anchor::TopLeft, 0.01, [199, 199], Some([199, 199, 200, 200])),
        ] {
            let mut source = grey();
            let mut placer = Placer::new(SOURCE, placement(anchor, scale, offset));
            let (planes, _) = source.planes_and_matte();
            let canvas = placer.place(&planes).unwrap();
            assert_eq!(covered(canvas), expected, "{anchor} {scale} {offset:?}");
        }
    }
}
