//! What an uploaded file is, by its first bytes. Names and headers are not asked: clients send none, or wrong ones.

/// Enough of a file to tell its type.
pub(crate) const SNIFF_BYTES: usize = 4096;

/// The types that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileType {
    Mp4,
    QuickTime,
    Webm,
    Avi,
    Matroska,
    Png,
    Jpeg,
    Webp,
}

impl FileType {
    const ALL: [Self; 8] =
        [Self::Mp4, Self::QuickTime, Self::Webm, Self::Avi, Self::Matroska, Self::Png, Self::Jpeg, Self::Webp];

    /// The media type it is stored under.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::QuickTime => "video/quicktime",
            Self::Webm => "video/webm",
            Self::Avi => "video/x-msvideo",
            Self::Matroska => "video/x-matroska",
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// Whether it can only be a background.
    pub(crate) const fn is_image(self) -> bool {
        match self {
            Self::Png | Self::Jpeg | Self::Webp => true,
            Self::Mp4 | Self::QuickTime | Self::Webm | Self::Avi | Self::Matroska => false,
        }
    }

    /// The type of an upload that is only announced: its media type, or where that says nothing its name.
    pub(crate) fn announced(content_type: &str, filename: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if !essence.is_empty() && essence != "application/octet-stream" {
            return Self::ALL.into_iter().find(|file_type| file_type.content_type() == essence);
        }
        let extension = filename.rsplit_once('.')?.1.to_ascii_lowercase();
        match extension.as_str() {
            "mp4" | "m4v" => Some(Self::Mp4),
            "mov" => Some(Self::QuickTime),
            "webm" => Some(Self::Webm),
            "avi" => Some(Self::Avi),
            "mkv" => Some(Self::Matroska),
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }
}

/// The type of a file that begins with these bytes.
pub(crate) fn sniff(first: &[u8]) -> Option<FileType> {
    match first {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(FileType::Png),
        [0xff, 0xd8, 0xff, ..] => Some(FileType::Jpeg),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(FileType::Webp),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => Some(FileType::Avi),
        [0x1a, 0x45, 0xdf, 0xa3, rest @ ..] => ebml(rest),
        _ => iso_media(first),
    }
}

/// ISO media begin with a box: its size, its name, and for `ftyp` the brand.
fn iso_media(first: &[u8]) -> Option<FileType> {
    let (size, rest) = first.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_first_chunk::<4>()?;
    let size = u32::from_be_bytes(*size);
    match name {
        b"ftyp" => brand(*rest.first_chunk::<4>()?),
        // Old QuickTime begins without a brand; 0 and 1 are sizes with a meaning of their own.
        b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"pnot" if size < 2 || size >= 8 => Some(FileType::QuickTime),
        _ => None,
    }
}

fn brand(brand: [u8; 4]) -> Option<FileType> {
    match &brand {
        b"qt  " => Some(FileType::QuickTime),
        // Pictures and sound in the same kind of box.
        b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" | b"avif" | b"avis" | b"M4A " | b"M4B " | b"crx " => None,
        _ => Some(FileType::Mp4),
    }
}

/// Matroska and WebM differ in the DocType element (0x4282) of the EBML header.
fn ebml(header: &[u8]) -> Option<FileType> {
    let at = header.windows(2).take(256).position(|id| id == [0x42, 0x82])?;
    let value = header.get(at + 3..)?;
    if value.starts_with(b"webm") {
        Some(FileType::Webm)
    } else if value.starts_with(b"matroska") {
        Some(FileType::Matroska)
    } else {
        None
    }
}
