//! A client's own uploads: their URLs and their object keys.
//!
//! The URL names only the upload; the key contains the client. So a client who presents another's URL looks for
//! an object of his own that does not exist: a foreign upload equals an unknown one.

use rotoless_contract::{ClientId, UploadId};
use url::Url;

/// Object key of an upload.
#[must_use]
pub fn upload_key(client: &ClientId, upload: &UploadId) -> String {
    format!("uploads/{client}/{upload}")
}

/// The `video_url` of an upload under the service's public base URL (no trailing slash).
#[must_use]
pub fn upload_url(public_base: &str, upload: &UploadId) -> String {
    format!("{public_base}/v1/uploads/{upload}")
}

/// The upload that a `video_url` names, whatever its host: recognised by its unguessable id, not by a host name
/// that may have changed since.
#[must_use]
pub fn own_upload(video_url: &str) -> Option<UploadId> {
    let url = Url::parse(video_url).ok()?;
    let id = url.path().strip_suffix('/').unwrap_or(url.path()).rsplit_once("/v1/uploads/")?.1;
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_recognised_by_its_id_under_any_host() {
        let id = UploadId::from_random([3; 16]);
        let url = upload_url("http://127.0.0.1:8080", &id);
        assert_eq!(own_upload(&url), Some(id.clone()));
        assert_eq!(own_upload(&url.replace("127.0.0.1:8080", "old.example")), Some(id));
        for other in ["https://example.com/a.mp4", "not a url", "http://h/v1/uploads/vid_../x", "http://h/v1/uploads/"]
        {
            assert_eq!(own_upload(other), None, "{other}");
        }
    }
}
