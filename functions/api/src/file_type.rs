//! The type of a file that is only announced. Of one that came, its bytes say it (`rotoless_core::header::sniff`).

use rotoless_core::header::FileType;

/// First bytes of a file that are enough for `sniff`.
pub(crate) const SNIFF_BYTES: usize = 64;

const ALL: [FileType; 8] = [
    FileType::Mp4,
    FileType::Mov,
    FileType::Webm,
    FileType::Mkv,
    FileType::Avi,
    FileType::Png,
    FileType::Jpeg,
    FileType::Webp,
];

/// By the media type, or where that says nothing by the name.
pub(crate) fn announced(content_type: &str, filename: &str) -> Option<FileType> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !essence.is_empty() && essence != "application/octet-stream" {
        return ALL.into_iter().find(|file_type| file_type.content_type() == essence);
    }
    let extension = filename.rsplit_once('.')?.1.to_ascii_lowercase();
    match extension.as_str() {
        "mp4" | "m4v" => Some(FileType::Mp4),
        "mov" => Some(FileType::Mov),
        "webm" => Some(FileType::Webm),
        "mkv" => Some(FileType::Mkv),
        "avi" => Some(FileType::Avi),
        "png" => Some(FileType::Png),
        "jpg" | "jpeg" => Some(FileType::Jpeg),
        "webp" => Some(FileType::Webp),
        _ => None,
    }
}
