//! A file in the field `file` of a form, streamed to the object store in constant memory.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use rotoless_contract::api::UploadReply;
use rotoless_contract::{ClientId, UploadId};
use rotoless_core::header::sniff;
use rotoless_core::ports::{AdapterError, UploadError};
use rotoless_core::source::{upload_key, upload_url};

use super::{greatest, invalid_file_type, too_large};
use crate::App;
use crate::envelope::ApiError;
use crate::extract::content_length;
use crate::file_type::SNIFF_BYTES;
use crate::intake::{Bounds, Fault, Gauge, bounded};
use crate::own_url::OwnUrl;
use crate::routes::Answer;

/// A whole upload must have come after this time.
const TIME: Duration = Duration::from_secs(15 * 60);
/// What a form may be longer than its file: boundaries, part headers, small fields.
const AROUND_THE_FILE: u64 = 64 * 1024;
/// Bytes that may come until the next part begins. The parser buffers them, and searches them again and again.
const READ_AHEAD: u64 = 128 * 1024;
/// Greatest length of a file name that is shown, in characters.
const MAX_NAME: usize = 255;

pub(super) async fn receive(app: &App, client: &ClientId, own: &OwnUrl, request: Request) -> Answer<UploadReply> {
    let (parts, body) = request.into_parts();
    let most = app.max_multipart_bytes.min(app.policy.limits.max_bytes);
    let bytes = most.saturating_add(AROUND_THE_FILE);
    if let Some(length) = content_length(&parts.headers).filter(|length| *length > bytes) {
        let everywhere = length > app.policy.limits.max_bytes.saturating_add(AROUND_THE_FILE);
        return Err(if everywhere { too_large().with_param("file") } else { over(app) });
    }
    let (stream, gauge) = bounded(body, Bounds { bytes, time: TIME });
    let request = Request::from_parts(parts, Body::from_stream(stream));
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| not_a_form())?;

    let mut field = loop {
        gauge.allow(READ_AHEAD);
        let field = form.next_field().await.map_err(|_| broken(app, &gauge))?;
        let Some(field) = field else {
            return Err(ApiError::field("file", "The form has no field `file`").with_reason("file_missing"));
        };
        if field.name() == Some("file") {
            break field;
        }
    };
    gauge.allow(u64::MAX);
    let filename = shown_name(field.file_name());
    let (upload, size) = store(app, client, &mut field, &gauge).await?;
    drop(field);
    finish(&mut form, &gauge).await;
    Ok(Json(UploadReply { success: true, video_url: upload_url(&own.0, &upload), video_id: upload, filename, size }))
}

/// Looks at the first bytes, then lets the rest through to the object store.
async fn store(
    app: &App,
    client: &ClientId,
    field: &mut Field<'_>,
    gauge: &Gauge,
) -> Result<(UploadId, u64), ApiError> {
    let mut first = BytesMut::new();
    while first.len() < SNIFF_BYTES {
        match field.chunk().await.map_err(|_| broken(app, gauge))? {
            Some(chunk) => first.extend_from_slice(&chunk),
            None => break,
        }
    }
    let first: Bytes = first.freeze();
    if first.is_empty() {
        return Err(ApiError::invalid("Invalid file type").with_reason("empty_file").with_param("file"));
    }
    let Some(file_type) = sniff(&first) else {
        return Err(invalid_file_type().with_param("file"));
    };
    let most = greatest(app, file_type);
    let upload = UploadId::from_random(app.entropy.id_bits());
    let rest = (&mut *field).map_err(AdapterError::from);
    let body = stream::iter([Ok(first)]).chain(rest).boxed();
    let key = upload_key(client, &upload);
    let stored = app.uploads.store(&key, file_type.content_type(), body, most.min(app.max_multipart_bytes)).await;
    match stored {
        Ok(size) => Ok((upload, size)),
        Err(UploadError::TooLarge) => {
            Err(if most > app.max_multipart_bytes { over(app) } else { too_large().with_param("file") })
        }
        Err(UploadError::Body(_)) => Err(broken(app, gauge)),
        Err(UploadError::Store(err)) => Err(err.into()),
    }
}

/// Reads what comes after the file. The file is stored: what is wrong from here on changes nothing.
async fn finish(form: &mut Multipart, gauge: &Gauge) {
    loop {
        gauge.allow(READ_AHEAD);
        match form.next_field().await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// The file name without any path, for show alone.
fn shown_name(name: Option<&str>) -> String {
    let name = name.and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    if matches!(name.trim(), "" | "." | "..") { "upload".to_owned() } else { name }
}

/// Larger than this host takes in one body.
fn over(app: &App) -> ApiError {
    if app.max_multipart_bytes >= app.policy.limits.max_bytes {
        return too_large().with_param("file");
    }
    let message = format!(
        "File too large: at most {} bytes can be sent as a form. Send JSON {{\"filename\", \"content_type\", \"size\"}} \
         to POST /v1/uploads instead, and PUT the file to the upload_url of the answer",
        app.max_multipart_bytes
    );
    ApiError::field("file", message).with_reason("file_too_large")
}

fn not_a_form() -> ApiError {
    ApiError::invalid("The body is not valid multipart/form-data").with_reason("invalid_multipart")
}

/// Why the form could not be read to the end of the file.
fn broken(app: &App, gauge: &Gauge) -> ApiError {
    match gauge.fault() {
        Some(Fault::TooLarge) => over(app),
        Some(Fault::TooSlow) => ApiError::invalid("The upload came too slowly").with_reason("upload_too_slow"),
        Some(Fault::Broken | Fault::Unusable) | None => not_a_form(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_shown_without_a_path_and_within_its_length() {
        for (sent, shown) in [
            (Some("clip.mp4"), "clip.mp4"),
            (Some("../../etc/passwd"), "passwd"),
            (Some("C:\\Users\\me\\clip.mov"), "clip.mov"),
            (Some("a/.."), "upload"),
            (Some("a\r\nb.mp4"), "ab.mp4"),
            (Some("dir/"), "upload"),
            (None, "upload"),
        ] {
            assert_eq!(shown_name(sent), shown);
        }
        assert_eq!(shown_name(Some(&"é".repeat(300))).chars().count(), 255);
    }
}
