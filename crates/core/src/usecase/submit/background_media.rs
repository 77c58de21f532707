//! The picture or video of a background: one of the client's own uploads, and of the right kind; or somebody else's URL,
//! of which the worker finds out.
//!
//! Does not own: whether it decodes; the worker finds that. Invariant: what a job will ask of its worker exists, and
//! is within the limits, when the job is accepted.

use rotoless_contract::api::JobRequest;
use rotoless_contract::worker::MAX_IMAGE_BYTES;
use rotoless_contract::{Background, ClientId, JobSpec};

use super::{Submit, SubmitError};
use crate::header::sniff;
use crate::ports::SourceProbeError;
use crate::record::Source;
use crate::request::InvalidRequest;
use crate::source::{own_upload, upload_key};

/// First bytes of a file that tell its type.
const TELLING_BYTES: u64 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Video,
}

impl Submit {
    /// Where the background's media is, if the order has any.
    pub(in crate::usecase) async fn background_media(
        &self,
        client: &ClientId,
        request: &JobRequest,
        spec: &JobSpec,
    ) -> Result<Option<Source>, SubmitError> {
        let (kind, url) = match &spec.background {
            Background::Image { image_url, .. } => (Kind::Image, image_url),
            Background::Video { video_url, .. } => (Kind::Video, video_url),
            Background::Transparent | Background::Color { .. } | Background::Blur => return Ok(None),
        };
        // The object wins over the flat fields.
        let param = match (kind, request.background.is_some()) {
            (Kind::Image, true) => "background.image_url",
            (Kind::Image, false) => "bg_image_url",
            (Kind::Video, true) => "background.video_url",
            (Kind::Video, false) => "bg_video_url",
        };
        self.background_upload(client, kind, url, param).await.map(Some)
    }

    async fn background_upload(
        &self,
        client: &ClientId,
        kind: Kind,
        url: &str,
        param: &'static str,
    ) -> Result<Source, SubmitError> {
        let invalid = |message: String, reason| InvalidRequest::field(param, message).with_reason(reason);
        let Some(upload_id) = own_upload(url) else {
            self.may_be_opened(param, url)?;
            return Ok(Source::External { url: url.to_owned() });
        };
        let key = upload_key(client, &upload_id);
        let Some(info) = self.objects.head(&key).await? else {
            return Err(invalid(format!("{param} names no upload"), "upload_not_found").into());
        };
        let size_bytes = info.size_bytes;
        let max_bytes = match kind {
            Kind::Image => MAX_IMAGE_BYTES.min(self.policy.limits.max_bytes),
            Kind::Video => self.policy.limits.max_bytes,
        };
        if size_bytes > max_bytes {
            return Err(invalid("File too large".to_owned(), "file_too_large").into());
        }
        let wrong_type = |what: &str| invalid(format!("{param} is {what}"), "invalid_file_type");
        match kind {
            Kind::Image => {
                let first = self.objects.read(&key, 0, TELLING_BYTES.min(size_bytes)).await?.unwrap_or_default();
                if !sniff(&first).is_some_and(|file_type| file_type.is_image()) {
                    return Err(wrong_type("not a PNG, JPEG or WebP picture").into());
                }
            }
            Kind::Video => match self.probe.read_header(&key, size_bytes).await {
                Ok(header) => {
                    let side = header.width.unwrap_or(0).max(header.height.unwrap_or(0));
                    if side > self.policy.limits.max_side {
                        let message = format!("{param}: the video's picture is too large");
                        return Err(invalid(message, "resolution_too_large").into());
                    }
                }
                Err(SourceProbeError::Header(err)) => return Err(wrong_type(&format!("not a video: {err}")).into()),
                Err(SourceProbeError::Store(err)) => return Err(err.into()),
            },
        }
        Ok(Source::Upload { upload_id, key, size_bytes })
    }
}
