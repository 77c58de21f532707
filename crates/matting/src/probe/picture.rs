//! The picture of a stream: its size as shown, and what must be converted to have it in 8-bit BT.709 planes.
//!
//! Does not own: how colours are converted (`colour`). Invariant: planes are passed on untouched when they are 8-bit
//! 4:2:0 BT.709 limited range already; every other source is converted once, in the decoder's process.

use rotoless_contract::worker::MediaLimits;

use super::colour::Colour;
use super::report::Stream;
use crate::error::{EngineError, LimitExceeded};

/// Below this the codecs of the outputs have nothing to work with.
const MIN_SIDE: u32 = 16;

/// Whole pictures out of fields, as many as the stream has frames. A frame that is whole already stays as it is.
const DEINTERLACE: &str = "bwdif=mode=send_frame:parity=auto:deint=interlaced";

/// A picture as it will be worked on.
#[derive(Debug)]
pub(super) struct Picture {
    /// px, even.
    pub width: u32,
    /// px, even.
    pub height: u32,
    /// What must be done to the frames as they are decoded, before they are put on the timeline; may be empty.
    pub early_filters: String,
    /// ffmpeg filters that make it so, comma separated.
    pub filters: String,
    /// The decoder that must be used, when ffmpeg's own choice would lose something.
    pub decoder: Option<&'static str>,
    /// Frames of another size than the first one's can be taken: the first filter that looks at the size is `scale`.
    pub takes_any_size: bool,
    pub warnings: Vec<String>,
}

impl Picture {
    pub(super) fn of(stream: &Stream, limits: &MediaLimits) -> Result<Self, EngineError> {
        let limit = |width, height| LimitExceeded::Side { width, height, min: MIN_SIDE, max: limits.max_side };
        if stream.width > limits.max_side || stream.height > limits.max_side {
            return Err(limit(stream.width, stream.height).into());
        }
        let (shown_width, shown_height) = shown_size(stream);
        let (width, height) = (shown_width & !1, shown_height & !1);
        if width.min(height) < MIN_SIDE || width.max(height) > limits.max_side {
            return Err(limit(shown_width, shown_height).into());
        }

        let is_interlaced = matches!(stream.field_order.as_str(), "tt" | "bb" | "tb" | "bt");
        let has_alpha = has_alpha(stream);
        let is_cut = pixel_aspect(stream).is_none() && (shown_width, shown_height) != (width, height);
        let mut filters = Vec::new();
        if has_alpha {
            filters.push("premultiply=inplace=1".to_owned());
        }
        if is_cut {
            // The last odd row or column is cut: scaling would soften every pixel for the sake of one.
            filters.push("crop=floor(iw/2)*2:floor(ih/2)*2:0:0".to_owned());
        }
        let colour = Colour::of(stream);
        // The size is pinned: a stream that changes its size midway is brought back to the first.
        filters.push(format!("scale={width}:{height}:flags=bicubic+accurate_rnd{}", colour.while_scaling()));
        filters.extend(colour.after_scaling());
        filters.push("format=yuv420p,setsar=1".to_owned());

        let mut warnings = colour.warnings(stream);
        if is_interlaced {
            warnings.push("the picture was interlaced; its fields were joined to whole frames".to_owned());
        }
        if has_alpha {
            warnings.push("the picture's own transparency was laid on black".to_owned());
        }
        Ok(Self {
            width,
            height,
            early_filters: if is_interlaced { format!("{DEINTERLACE},") } else { String::new() },
            filters: filters.join(","),
            decoder: alpha_decoder(stream),
            takes_any_size: !(is_interlaced || has_alpha || is_cut) && rotations(stream).next().is_none(),
            warnings,
        })
    }
}

/// Degrees that the container turns the picture by.
fn rotations(stream: &Stream) -> impl Iterator<Item = f64> {
    stream.side_data_list.iter().filter_map(|data| data.rotation)
}

/// Size after rotation and with square pixels, before it is made even. Saturates instead of overflowing.
fn shown_size(stream: &Stream) -> (u32, u32) {
    let (mut width, mut height) = (stream.width, stream.height);
    if let Some((num, den)) = pixel_aspect(stream) {
        let scaled = |side: u32, by: u32, of: u32| {
            u32::try_from((u64::from(side) * u64::from(by) + u64::from(of) / 2) / u64::from(of)).unwrap_or(u32::MAX)
        };
        // Stretched, never shrunk: no detail is lost.
        if num > den {
            width = scaled(width, num, den);
        } else {
            height = scaled(height, den, num);
        }
    }
    // Only whole quarters change the size: by any other angle ffmpeg turns the picture within its frame.
    let quarter_turned = rotations(stream).any(|degrees| (degrees.rem_euclid(180.0) - 90.0).abs() < 1.0);
    if quarter_turned { (height, width) } else { (width, height) }
}

/// The shape of a pixel, when it is told and is not square.
fn pixel_aspect(stream: &Stream) -> Option<(u32, u32)> {
    let (num, den) = stream.sample_aspect_ratio.split_once(':')?;
    let (num, den) = (num.parse().ok()?, den.parse().ok()?);
    (num > 0 && den > 0 && num != den).then_some((num, den))
}

fn has_alpha(stream: &Stream) -> bool {
    const FORMATS: &[&str] = &["yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16"];
    FORMATS.iter().any(|prefix| stream.pix_fmt.starts_with(prefix)) || alpha_decoder(stream).is_some()
}

/// ffmpeg's own decoders of VP8 and VP9 drop alpha without a word.
fn alpha_decoder(stream: &Stream) -> Option<&'static str> {
    match (stream.codec_name.as_str(), stream.tags.alpha_mode.as_deref()) {
        ("vp8", Some("1")) => Some("libvpx"),
        ("vp9", Some("1")) => Some("libvpx-vp9"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::SideData;
    use super::*;

    fn stream(width: u32, height: u32) -> Stream {
        Stream { width, height, pix_fmt: "yuv420p".into(), color_space: "bt709".into(), ..Stream::default() }
    }

    fn picture(stream: &Stream) -> Picture {
        Picture::of(stream, &MediaLimits::default()).unwrap()
    }

    #[test]
    fn planes_that_are_right_are_passed_through() {
        let found = picture(&stream(640, 360));
        assert_eq!((found.width, found.height), (640, 360));
        assert_eq!(found.filters, "scale=640:360:flags=bicubic+accurate_rnd,format=yuv420p,setsar=1");
        assert!(found.warnings.is_empty());
    }

    #[test]
    fn rotation_and_pixel_shape_decide_the_shown_size() {
        let mut turned = stream(640, 360);
        turned.side_data_list = vec![SideData { rotation: Some(-90.0) }];
        assert_eq!((picture(&turned).width, picture(&turned).height), (360, 640));
        let mut wide = stream(720, 576);
        wide.sample_aspect_ratio = "64:45".into();
        assert_eq!((picture(&wide).width, picture(&wide).height), (1024, 576));
        let mut upside_down = stream(640, 360);
        upside_down.side_data_list = vec![SideData { rotation: Some(180.0) }];
        assert_eq!((picture(&upside_down).width, picture(&upside_down).height), (640, 360));
    }

    #[test]
    fn odd_sides_lose_one_row_or_column() {
        let found = picture(&stream(641, 361));
        assert_eq!((found.width, found.height), (640, 360));
        assert!(found.filters.starts_with("crop="), "{}", found.filters);
    }

    #[test]
    fn untagged_colour_is_taken_for_sd_below_720_lines() {
        let mut untagged = stream(640, 360);
        untagged.color_space = "unknown".into();
        assert!(picture(&untagged).filters.contains("in_color_matrix=smpte170m"));
        untagged.height = 720;
        assert!(!picture(&untagged).filters.contains("color_matrix"));
    }

    #[test]
    fn sides_are_accepted_up_to_the_limit() {
        let limits = MediaLimits { max_side: 1000, ..MediaLimits::default() };
        assert!(Picture::of(&stream(1000, 1000), &limits).is_ok());
        assert!(Picture::of(&stream(1001, 1000), &limits).is_err());
        assert!(Picture::of(&stream(16, 16), &limits).is_ok());
        assert!(Picture::of(&stream(15, 16), &limits).is_err());
        assert!(Picture::of(&stream(0, 0), &limits).is_err());
        let mut absurd = stream(1000, 1000);
        absurd.sample_aspect_ratio = "4294967295:1".into();
        assert!(Picture::of(&absurd, &limits).is_err());
    }

    #[test]
    fn deep_colour_and_own_alpha_are_told() {
        let mut deep = stream(640, 360);
        deep.pix_fmt = "yuva444p10le".into();
        assert_eq!(picture(&deep).warnings.len(), 2);
    }
}
