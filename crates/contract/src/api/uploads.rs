//! Uploads.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::UploadId;

/// Answer of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadReply {
    /// Always `true`.
    pub success: bool,
    /// The upload's id.
    pub video_id: UploadId,
    /// What to give to `POST /v1/jobs`.
    pub video_url: String,
    /// As sent, without any path.
    pub filename: String,
    /// Bytes.
    pub size: u64,
}

/// Body of `POST /v1/uploads` as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PresignRequest {
    /// The file's name.
    pub filename: String,
    /// Its media type. Where it says nothing, or `application/octet-stream`, the extension of `filename` decides.
    #[cfg_attr(
        feature = "openapi",
        schema(
            pattern = "^((video/(mp4|quicktime|webm|x-matroska|x-msvideo)|image/(png|jpeg|webp)|application/octet-stream)( *;.*)?)?$"
        )
    )]
    pub content_type: String,
    /// Its size in bytes; bound into the signature.
    #[serde(deserialize_with = "crate::number::whole")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 500_000_000))]
    pub size: u64,
}

/// Answer of `POST /v1/uploads` as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PresignReply {
    /// Always `true`.
    pub success: bool,
    /// The upload's id.
    pub video_id: UploadId,
    /// Presigned.
    pub upload_url: String,
    /// `PUT`.
    pub method: String,
    /// Headers that must be sent as they are.
    pub headers: BTreeMap<String, String>,
    /// What to give to `POST /v1/jobs`.
    pub video_url: String,
    /// When `upload_url` ends.
    pub expires_at: Timestamp,
}
