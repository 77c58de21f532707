//! What a file is, by its first bytes. Names and declared types are not asked.

/// First bytes that are enough to tell.
pub(super) const SNIFF_BYTES: usize = 64;

/// A type of file that may be uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// ISO base media.
    Mp4,
    /// `QuickTime`.
    Mov,
    /// Matroska with the `DocType` `webm`.
    Webm,
    /// Any other Matroska.
    Mkv,
    /// RIFF AVI.
    Avi,
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// RIFF WebP.
    Webp,
}

impl FileType {
    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::Mov => "video/quicktime",
            Self::Webm => "video/webm",
            Self::Mkv => "video/x-matroska",
            Self::Avi => "video/x-msvideo",
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// Whether it may be the source of a job.
    #[must_use]
    pub const fn is_video(self) -> bool {
        match self {
            Self::Mp4 | Self::Mov | Self::Webm | Self::Mkv | Self::Avi => true,
            Self::Png | Self::Jpeg | Self::Webp => false,
        }
    }

    /// Whether it may be a background.
    #[must_use]
    pub const fn is_image(self) -> bool {
        !self.is_video()
    }
}

/// What the file is that begins with these bytes (64 are enough); none for anything that may not be uploaded.
#[must_use]
pub fn sniff(first_bytes: &[u8]) -> Option<FileType> {
    let at = |offset: usize, len: usize| first_bytes.get(offset..offset + len);
    if at(0, 8) == Some(b"\x89PNG\r\n\x1a\n") {
        return Some(FileType::Png);
    }
    if at(0, 3) == Some(b"\xff\xd8\xff") {
        return Some(FileType::Jpeg);
    }
    if at(0, 4) == Some(b"RIFF") {
        return match at(8, 4)? {
            b"AVI " => Some(FileType::Avi),
            b"WEBP" => Some(FileType::Webp),
            _ => None,
        };
    }
    if at(0, 4) == Some(b"\x1a\x45\xdf\xa3") {
        return matroska(first_bytes);
    }
    match at(4, 4)? {
        b"ftyp" => brand(at(8, 4)?),
        // QuickTime from before there was an `ftyp`.
        b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"pnot" => Some(FileType::Mov),
        _ => None,
    }
}

fn brand(major: &[u8]) -> Option<FileType> {
    match major {
        b"qt  " => Some(FileType::Mov),
        // Still pictures in the same container.
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" | b"avif" | b"avis" | b"jxl "
        | b"crx " => None,
        _ => Some(FileType::Mp4),
    }
}

/// The `DocType` is the element 0x4282 among the first few; its length is one byte, 0x80 and the length.
fn matroska(first_bytes: &[u8]) -> Option<FileType> {
    let id = first_bytes.windows(2).position(|id| id == [0x42, 0x82])?;
    let value = first_bytes.get(id + 3..)?;
    match first_bytes.get(id + 2)? {
        0x84 if value.starts_with(b"webm") => Some(FileType::Webm),
        0x88 if value.starts_with(b"matroska") => Some(FileType::Mkv),
        _ => None,
    }
}
