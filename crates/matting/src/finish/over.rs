//! The subject over a colour or a picture.

use rotoless_contract::spec::Rgb;

use crate::frame::Planes;
use crate::lanes::widest;

/// A colour in BT.709, limited range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SolidColour {
    y: u8,
    u: u8,
    v: u8,
}

impl SolidColour {
    pub(super) fn of(colour: Rgb) -> Self {
        let [red, green, blue] = colour.0.map(|channel| f64::from(channel) / 255.0);
        let luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "16..=240 by construction")]
        let byte = |value: f64| value.round() as u8;
        Self {
            y: byte(16.0 + 219.0 * luma),
            u: byte(128.0 + 224.0 * (blue - luma) / 1.8556),
            v: byte(128.0 + 224.0 * (red - luma) / 1.5748),
        }
    }

    /// Mixing in YUV is mixing in RGB: the one is a linear form of the other.
    pub(super) fn under(self, planes: &mut Planes<'_>, chroma_alpha: &[u8]) {
        // One loop for both kinds: what is under comes from an iterator that costs nothing.
        mix(planes.y, planes.alpha, std::iter::repeat(self.y));
        mix(planes.u, chroma_alpha, std::iter::repeat(self.u));
        mix(planes.v, chroma_alpha, std::iter::repeat(self.v));
    }
}

/// Puts Y, U and V of a picture under the subject.
pub(super) fn picture_under(picture: &[u8], planes: &mut Planes<'_>, chroma_alpha: &[u8]) {
    let (y, rest) = picture.split_at(planes.y.len());
    let (u, v) = rest.split_at(planes.u.len());
    mix(planes.y, planes.alpha, y.iter().copied());
    mix(planes.u, chroma_alpha, u.iter().copied());
    mix(planes.v, chroma_alpha, v.iter().copied());
}

#[inline(always)]
fn mix(plane: &mut [u8], alpha: &[u8], under: impl Iterator<Item = u8>) {
    widest(
        #[inline(always)]
        || {
            for ((value, &alpha), under) in plane.iter_mut().zip(alpha).zip(under) {
                let (alpha, under) = (u16::from(alpha), u16::from(under));
                // At most 255 · 255 + 128 and 1/256 of that: nothing wraps.
                let over = u16::from(*value).wrapping_mul(alpha);
                let sum = over.wrapping_add(under.wrapping_mul(255_u16.wrapping_sub(alpha))).wrapping_add(128);
                // Rounded division by 255, without a division.
                *value = (sum.wrapping_add(sum >> 8) >> 8) as u8;
            }
        },
    );
}
