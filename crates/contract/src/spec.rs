//! What a job is to do: model, background, format, composition. Validated values, as workers receive them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text names none of the known values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: {allowed}")]
pub struct UnknownName {
    /// The names that are allowed, separated by commas.
    pub allowed: String,
}

macro_rules! named {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $wire:literal,)+ }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $wire)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)+
                }
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                crate::schema::of_names(&[$($wire),+], concat!($($doc),*))
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| UnknownName {
                    allowed: Self::ALL.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// The role of a model; which weights fill it is the model registry's business.
    Model {
        /// General, highest quality.
        Original = "original",
        /// Simple scenes, high throughput.
        Light = "light",
        /// Complex objects, text prompt.
        Pro = "pro",
        /// Portraits, people.
        Human = "human",
    }
}

named! {
    /// The container and codecs of the output.
    OutputFormat {
        /// VP9 with alpha, Opus.
        Webm = "webm",
        /// `ProRes` 4444, AAC.
        Mov = "mov",
        /// H.264, AAC; no alpha.
        Mp4 = "mp4",
        /// Palette, 1-bit alpha, no sound.
        Gif = "gif",
        /// Animated, alpha, no sound.
        Webp = "webp",
        /// ZIP of PNG frames and a manifest, no sound.
        PngSequence = "png_sequence",
    }
}

impl OutputFormat {
    /// The file name extension, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Webm => "webm",
            Self::Mov => "mov",
            Self::Mp4 => "mp4",
            Self::Gif => "gif",
            Self::Webp => "webp",
            Self::PngSequence => "zip",
        }
    }

    /// The media type of the output object.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Webm => "video/webm",
            Self::Mov => "video/quicktime",
            Self::Mp4 => "video/mp4",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
            Self::PngSequence => "application/zip",
        }
    }

    /// Whether the format can carry the matte.
    #[must_use]
    pub const fn has_alpha(self) -> bool {
        match self {
            Self::Mp4 => false,
            Self::Webm | Self::Mov | Self::Gif | Self::Webp | Self::PngSequence => true,
        }
    }

    /// Whether the format can carry sound.
    #[must_use]
    pub const fn has_audio(self) -> bool {
        match self {
            Self::Webm | Self::Mov | Self::Mp4 => true,
            Self::Gif | Self::Webp | Self::PngSequence => false,
        }
    }
}

/// A colour, 8 bits a channel, full range, BT.709 primaries. On the wire `#RRGGBB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rgb(pub [u8; 3]);

impl From<Rgb> for String {
    fn from(Rgb([r, g, b]): Rgb) -> Self {
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

impl TryFrom<String> for Rgb {
    type Error = UnknownName;

    fn try_from(text: String) -> Result<Self, UnknownName> {
        let mut rgb = [0; 3];
        let digits = text.strip_prefix('#').unwrap_or_default();
        hex::decode_to_slice(digits, &mut rgb).map_err(|_| UnknownName { allowed: "#RRGGBB".to_owned() })?;
        Ok(Self(rgb))
    }
}

/// How a background picture is fitted to the canvas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Fill, crop what does not fit.
    #[default]
    Cover,
    /// Show all of it, bars around it.
    Contain,
    /// Fill, change the aspect.
    Stretch,
}

/// What stands behind the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Background {
    /// Nothing: the output carries the matte as alpha.
    Transparent,
    /// One colour.
    Color {
        /// The colour.
        color: Rgb,
    },
    /// A still picture.
    Image {
        /// Where it was given.
        image_url: String,
        /// How it is fitted.
        #[serde(default)]
        fit: Fit,
    },
    /// A video, looped.
    Video {
        /// Where it was given.
        video_url: String,
        /// How it is fitted.
        #[serde(default)]
        fit: Fit,
    },
    /// The source itself, blurred.
    Blur,
}

named! {
    /// Where the foreground sits on the canvas.
    Anchor {
        /// Top left.
        TopLeft = "top-left",
        /// Top centre.
        TopCenter = "top-center",
        /// Top right.
        TopRight = "top-right",
        /// Centre left.
        CenterLeft = "center-left",
        /// The middle.
        Center = "center",
        /// Centre right.
        CenterRight = "center-right",
        /// Bottom left.
        BottomLeft = "bottom-left",
        /// Bottom centre.
        BottomCenter = "bottom-center",
        /// Bottom right.
        BottomRight = "bottom-right",
    }
}

/// Canvas and placement of the foreground.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Composition {
    /// Canvas width in px, even, 16..4096.
    pub width: u32,
    /// Canvas height in px, even, 16..4096.
    pub height: u32,
    /// Where the foreground sits.
    pub anchor: Anchor,
    /// 1 = as large as fits the canvas.
    pub scale: f64,
    /// Offset from the anchor in px, x to the right, y down.
    pub offset: [i32; 2],
}

/// Everything a worker has to know of what was ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Which model role.
    pub model: Model,
    /// What stands behind the subject.
    pub background: Background,
    /// Container and codecs.
    pub output_format: OutputFormat,
    /// Subjects in words, for `pro`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_prompt: Option<String>,
    /// Canvas and placement; absent: the source's own size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composition: Option<Composition>,
}
