//! Which of the things that were found a client meant.
//!
//! Owns: the meaning of places and colours. Colours are judged on a few hundred pixels in the middle of a box, in hue,
//! saturation and value; a shadow or a highlight leaves most of them right.

use rotoless_contract::prompt::{Colour as Named, Place, Subject};

use super::found::{Found, Region};
use crate::frame::{Colour, Size};

/// Pixels that are looked at in each direction.
const SAMPLES: usize = 16;
/// Of a box, the part around its middle that is its subject rather than what is behind it.
const MIDDLE: f32 = 0.6;
/// A subject is of a colour when at least so many of its pixels are.
const ENOUGH: f32 = 0.2;

/// The frame as far as choosing needs it.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub colour: Colour<'a>,
    pub size: Size,
}

/// Of the found ones of a noun, those that `subject` means: all of them, or the one that its place and colour choose.
pub(super) fn meant(subject: &Subject, mut found: Vec<Found>, scene: &Scene<'_>) -> Vec<Found> {
    if let Some(colour) = subject.colour {
        let shares: Vec<f32> = found.iter().map(|found| scene.share(&found.region, colour)).collect();
        let best = shares.iter().copied().fold(0.0, f32::max);
        let mut shares = shares.into_iter();
        // Without a place the colour chooses one; with a place it narrows down what the place chooses from.
        let least = if subject.place.is_some() { ENOUGH.min(best) } else { best };
        found.retain(|_| shares.next().is_some_and(|share| best > 0.0 && share >= least));
    }
    match subject.place {
        None if subject.colour.is_none() => found,
        None => found.into_iter().take(1).collect(),
        Some(place) => {
            let best = found.into_iter().min_by(|one, other| {
                rank(place, &one.region, scene.size).total_cmp(&rank(place, &other.region, scene.size))
            });
            best.into_iter().collect()
        }
    }
}

/// The least is meant.
fn rank(place: Place, region: &Region, frame: Size) -> f32 {
    let (x, y) = region.centre();
    match place {
        Place::Left => x,
        Place::Right => -x,
        Place::Top => y,
        Place::Bottom => -y,
        Place::Centre => (x - frame.width as f32 / 2.0).hypot(y - frame.height as f32 / 2.0),
        Place::Largest => -region.area(),
        Place::Smallest => region.area(),
    }
}

impl Scene<'_> {
    /// How much of the middle of a box is of that colour, 0..1.
    fn share(&self, region: &Region, colour: Named) -> f32 {
        let Some(region) = region.widened((MIDDLE - 1.0) / 2.0).within(self.size) else { return 0.0 };
        let mut right = 0;
        for row in 0..SAMPLES {
            for column in 0..SAMPLES {
                let at = |first: f32, length: f32, step: usize| first + length * (step as f32 + 0.5) / SAMPLES as f32;
                let x = at(region.left, region.width(), column) as usize;
                let y = at(region.top, region.height(), row) as usize;
                right += usize::from(named(self.rgb(x, y)) == colour);
            }
        }
        right as f32 / (SAMPLES * SAMPLES) as f32
    }

    /// Red, green and blue, 0..1.
    fn rgb(&self, x: usize, y: usize) -> [f32; 3] {
        let chroma =
            (y / 2).min(self.size.height / 2 - 1) * (self.size.width / 2) + (x / 2).min(self.size.width / 2 - 1);
        let luma = y.min(self.size.height - 1) * self.size.width + x.min(self.size.width - 1);
        let [y, u, v] = self.colour;
        let at = |plane: &[u8], place: usize| plane.get(place).copied().unwrap_or(128);
        crate::model_picture::rgb(at(y, luma), at(u, chroma), at(v, chroma)).map(|value| value / 255.0)
    }
}

/// The word for a colour. Borders between words are those of most speakers' usage, not of physics.
fn named([red, green, blue]: [f32; 3]) -> Named {
    let greatest = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    let range = greatest - least;
    let saturation = if greatest > 0.0 { range / greatest } else { 0.0 };
    if greatest < 0.2 {
        return Named::Black;
    }
    if saturation < 0.18 {
        return if greatest > 0.75 { Named::White } else { Named::Grey };
    }
    let hue = if greatest == red {
        60.0 * ((green - blue) / range).rem_euclid(6.0)
    } else if greatest == green {
        60.0 * ((blue - red) / range + 2.0)
    } else {
        60.0 * ((red - green) / range + 4.0)
    };
    match hue {
        hue if !(15.0..345.0).contains(&hue) && saturation < 0.55 && greatest > 0.7 => Named::Pink,
        hue if !(12.0..345.0).contains(&hue) => Named::Red,
        hue if hue < 45.0 && greatest < 0.65 => Named::Brown,
        hue if hue < 42.0 => Named::Orange,
        hue if hue < 70.0 => Named::Yellow,
        hue if hue < 165.0 => Named::Green,
        hue if hue < 258.0 => Named::Blue,
        hue if hue < 295.0 => Named::Purple,
        _ => Named::Pink,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 64, height: 32 };

    fn found(left: f32, top: f32, side: f32) -> Found {
        let region = Region { left, top, right: left + side, bottom: top + side };
        Found { noun: 2, score: 0.5, region, is_rivalled: false }
    }

    fn subject(place: Option<Place>, colour: Option<Named>) -> Subject {
        Subject { noun: 2, place, colour }
    }

    fn grey(planes: &[u8]) -> Scene<'_> {
        let chroma = &planes[..SIZE.chroma().pixels()];
        Scene { colour: [planes, chroma, chroma], size: SIZE }
    }

    #[test]
    fn a_place_chooses_one_and_no_place_means_all() {
        let planes = vec![128; SIZE.pixels()];
        let scene = grey(&planes);
        let (left, middle, right) = (found(0.0, 4.0, 10.0), found(27.0, 10.0, 8.0), found(48.0, 0.0, 16.0));
        let all = vec![middle, right, left];
        assert_eq!(meant(&subject(None, None), all.clone(), &scene), all);
        for (place, expected) in [
            (Place::Left, left),
            (Place::Right, right),
            (Place::Centre, middle),
            (Place::Largest, right),
            (Place::Smallest, middle),
            (Place::Top, right),
            (Place::Bottom, middle),
        ] {
            assert_eq!(meant(&subject(Some(place), None), all.clone(), &scene), [expected], "{place:?}");
        }
        assert_eq!(meant(&subject(Some(Place::Left), None), Vec::new(), &scene), []);
    }

    #[test]
    fn a_colour_chooses_what_is_mostly_of_it() {
        // The left half is BT.709 red, the right half blue.
        let of = |plane: Size, left: u8, right: u8| -> Vec<u8> {
            (0..plane.pixels()).map(|place| if place % plane.width < plane.width / 2 { left } else { right }).collect()
        };
        let planes = [of(SIZE, 63, 32), of(SIZE.chroma(), 102, 240), of(SIZE.chroma(), 240, 118)];
        let scene = Scene { colour: [&planes[0], &planes[1], &planes[2]], size: SIZE };
        let (red, blue) = (found(4.0, 4.0, 20.0), found(36.0, 4.0, 20.0));
        let choose = |colour| meant(&subject(None, Some(colour)), vec![blue, red], &scene);
        assert_eq!(choose(Named::Red), [red]);
        assert_eq!(choose(Named::Blue), [blue]);
        assert_eq!(choose(Named::Green), []);
    }

    #[test]
    fn plain_colours_have_their_names() {
        for (rgb, name) in [
            ([0.05, 0.05, 0.05], Named::Black),
            ([0.95, 0.95, 0.95], Named::White),
            ([0.5, 0.5, 0.52], Named::Grey),
            ([0.85, 0.1, 0.1], Named::Red),
            ([1.0, 0.55, 0.0], Named::Orange),
            ([0.95, 0.9, 0.2], Named::Yellow),
            ([0.1, 0.6, 0.2], Named::Green),
            ([0.1, 0.2, 0.8], Named::Blue),
            ([0.45, 0.1, 0.7], Named::Purple),
            ([1.0, 0.6, 0.7], Named::Pink),
            ([0.45, 0.28, 0.12], Named::Brown),
        ] {
            assert_eq!(named(rgb), name, "{rgb:?}");
        }
    }
}
