//! Colour as a stream declares it, and the way from there to 8-bit BT.709.
//!
//! Two ways: `scale` alone changes matrix, range and depth, and passes through what is right already; `zscale` in
//! linear light when the primaries are others, and tone mapping between when the picture is HDR.

use super::report::Stream;

/// From this height on, an untagged picture is taken for HD. Players do the same.
const HD_HEIGHT: u32 = 720;

/// Light of white paper in HDR (ITU-R BT.2408), cd/m². It becomes 83 % of an SDR picture's white.
const PAPER_WHITE: u32 = 203;

/// Brightest light that keeps detail, in paper whites: 1000 cd/m², what HDR is mastered for.
const PEAK: &str = "4.93";

/// Light as it is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    /// BT.709 and what is close to it.
    Sdr,
    /// sRGB, as screens are recorded.
    Srgb,
    Pq,
    Hlg,
    /// Something else: taken as it is.
    Other,
}

/// Colour as the stream declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour {
    is_rgb: bool,
    /// ffmpeg's name of the YUV matrix.
    matrix: &'static str,
    is_full_range: bool,
    transfer: Transfer,
    /// ffmpeg's name of primaries that are not those of SDR video.
    wide_primaries: Option<&'static str>,
}

impl Colour {
    pub(super) fn of(stream: &Stream) -> Self {
        let format = stream.pix_fmt.as_str();
        let is_rgb = ["rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "mono", "x2rgb", "x2bgr"]
            .iter()
            .any(|prefix| format.starts_with(prefix));
        let transfer = match stream.color_transfer.as_str() {
            "smpte2084" => Transfer::Pq,
            "arib-std-b67" => Transfer::Hlg,
            "iec61966-2-1" => Transfer::Srgb,
            "" | "unknown" | "bt709" | "smpte170m" | "bt2020-10" | "bt2020-12" => Transfer::Sdr,
            _ => Transfer::Other,
        };
        let is_hdr = matches!(transfer, Transfer::Pq | Transfer::Hlg);
        let matrix = match stream.color_space.as_str() {
            "bt709" => "bt709",
            "bt470bg" | "smpte170m" => "smpte170m",
            "smpte240m" => "smpte240m",
            "fcc" => "fcc",
            "bt2020nc" | "bt2020c" => "bt2020nc",
            _ if is_hdr => "bt2020nc",
            _ if stream.height >= HD_HEIGHT => "bt709",
            _ => "smpte170m",
        };
        let wide_primaries = match stream.color_primaries.as_str() {
            "bt2020" => Some("bt2020"),
            "smpte431" => Some("smpte431"),
            "smpte432" => Some("smpte432"),
            "bt709" => None,
            _ if is_hdr => Some("bt2020"),
            _ => None,
        };
        let is_full_range = stream.color_range == "pc" || format.starts_with("yuvj");
        Self { is_rgb, matrix, is_full_range, transfer, wide_primaries }
    }

    const fn is_hdr(self) -> bool {
        matches!(self.transfer, Transfer::Pq | Transfer::Hlg)
    }

    /// Whether light itself has to be converted, not only its coding.
    const fn needs_linear_light(self) -> bool {
        match self.transfer {
            Transfer::Pq | Transfer::Hlg => true,
            Transfer::Sdr | Transfer::Srgb => self.wide_primaries.is_some(),
            Transfer::Other => false,
        }
    }

    /// Options of the `scale` filter. It passes frames through untouched only when none is given.
    pub(super) fn while_scaling(self) -> String {
        let mut options = String::new();
        if self.needs_linear_light() {
            // Only the size, at the depth that it came in.
        } else if self.is_rgb {
            options.push_str(":out_color_matrix=bt709:out_range=tv");
        } else {
            if self.matrix != "bt709" {
                let matrix = if self.matrix == "bt2020nc" { "bt2020" } else { self.matrix };
                options.push_str(&format!(":in_color_matrix={matrix}:out_color_matrix=bt709"));
            }
            if self.is_full_range {
                options.push_str(":in_range=pc:out_range=tv");
            }
        }
        options
    }

    /// Filters behind `scale`.
    pub(super) fn after_scaling(self) -> Option<String> {
        if !self.needs_linear_light() {
            return None;
        }
        let transfer = match self.transfer {
            Transfer::Pq => "smpte2084",
            Transfer::Hlg => "arib-std-b67",
            Transfer::Srgb => "iec61966-2-1",
            Transfer::Sdr | Transfer::Other => "bt709",
        };
        let primaries = self.wide_primaries.unwrap_or("bt709");
        let matrix = if self.is_rgb { "gbr" } else { self.matrix };
        let range = if self.is_rgb || self.is_full_range { "pc" } else { "tv" };
        let tone_mapping =
            if self.is_hdr() { format!("tonemap=tonemap=mobius:peak={PEAK}:desat=0,") } else { String::new() };
        // What the stream does not say, or says only in the container, is said to the frames.
        Some(format!(
            "setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range={range},\
             zscale=transfer=linear:npl={PAPER_WHITE},format=gbrpf32le,zscale=primaries=709,{tone_mapping}\
             zscale=transfer=709:matrix=709:range=limited"
        ))
    }

    pub(super) fn warnings(self, stream: &Stream) -> Vec<String> {
        let format = stream.pix_fmt.as_str();
        let mut warnings = Vec::new();
        if ["p9", "p10", "p12", "p14", "p16", "48", "64", "gray1", "x2"].iter().any(|depth| format.contains(depth)) {
            warnings.push(format!("the picture's {format} was converted to 8 bits"));
        }
        if self.is_hdr() {
            warnings.push("the picture is HDR and was tone-mapped to BT.709".to_owned());
        } else if self.needs_linear_light() {
            warnings.push("the picture's wide colours were converted to BT.709".to_owned());
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(space: &str, transfer: &str, primaries: &str) -> Stream {
        Stream {
            width: 640,
            height: 360,
            pix_fmt: "yuv420p10le".into(),
            color_space: space.into(),
            color_transfer: transfer.into(),
            color_primaries: primaries.into(),
            ..Stream::default()
        }
    }

    #[test]
    fn hdr_goes_through_linear_light_and_a_tone_curve() {
        for transfer in ["smpte2084", "arib-std-b67"] {
            let colour = Colour::of(&stream("", transfer, ""));
            let filters = colour.after_scaling().unwrap();
            assert!(filters.contains("tonemap") && filters.contains("color_primaries=bt2020"), "{filters}");
            assert_eq!(colour.while_scaling(), "");
        }
    }

    #[test]
    fn wide_primaries_of_sdr_are_converted_without_a_tone_curve() {
        let filters = Colour::of(&stream("bt2020nc", "bt2020-10", "bt2020")).after_scaling().unwrap();
        assert!(!filters.contains("tonemap"), "{filters}");
        assert_eq!(Colour::of(&stream("bt709", "bt709", "bt709")).after_scaling(), None);
        // The matrix alone is no reason.
        assert_eq!(Colour::of(&stream("bt470bg", "bt709", "bt470bg")).after_scaling(), None);
        // A curve that nobody knows is left as it is.
        assert_eq!(Colour::of(&stream("bt2020nc", "log316", "bt2020")).after_scaling(), None);
    }
}
