//! The subject over one colour.

use rotoless_contract::spec::Rgb;

use crate::frame::Planes;

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
        mix(planes.y, planes.alpha, self.y);
        mix(planes.u, chroma_alpha, self.u);
        mix(planes.v, chroma_alpha, self.v);
    }
}

fn mix(plane: &mut [u8], alpha: &[u8], under: u8) {
    let under = u32::from(under);
    for (value, &alpha) in plane.iter_mut().zip(alpha) {
        let alpha = u32::from(alpha);
        let sum = u32::from(*value) * alpha + under * (255 - alpha) + 128;
        // Rounded division by 255, without a division.
        *value = ((sum + (sum >> 8)) >> 8) as u8;
    }
}
