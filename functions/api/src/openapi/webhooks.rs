//! Webhooks in the document: what customers are sent, and what their answer means.

use rotoless_contract::webhook::WebhookEvent;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

/// A job's state changed
///
/// Sent to the job's `webhook_url` until it is answered with 2xx, about 8 times over 24 h; 410 ends it at once.
/// Redirects are not followed. Signatures are over the raw body.
#[utoipa::path(
    post, path = "jobEvent", operation_id = "jobEvent", tag = "Webhooks",
    params(
        ("X-Webhook-Event" = rotoless_contract::webhook::EventKind, Header, description = "As `event`"),
        ("X-Webhook-Delivery-Id" = rotoless_contract::DeliveryId, Header, description = "As `delivery_id`"),
        ("X-Webhook-Timestamp" = String, Header, description = "When this try was made, RFC 3339"),
        ("X-Webhook-Signature" = String, Header, pattern = "^sha256=[0-9a-f]{64}$",
            description = "HMAC-SHA256 with the client's webhook secret of `<X-Webhook-Timestamp>.<raw body>`"),
        ("webhook-id" = String, Header, description = "Standard Webhooks: as `delivery_id`"),
        ("webhook-timestamp" = String, Header, description = "Standard Webhooks: Unix seconds of this try"),
        ("webhook-signature" = String, Header, description = "Standard Webhooks: `v1,` and the signature in base64"),
    ),
    request_body = WebhookEvent,
    responses(
        (status = "2XX", description = "Taken"),
        (status = 410, description = "Never send this event again"),
        (status = "default", description = "Send it again later"),
    ),
)]
fn job_event() {}

#[derive(utoipa::OpenApi)]
#[openapi(paths(job_event))]
struct Webhooks;

pub(super) fn add(document: &mut OpenApi) {
    // Called so that it is not dead code: its attribute is what counts.
    job_event();
    let mut webhooks = Webhooks::openapi();
    document.webhooks = Some(std::mem::take(&mut webhooks.paths));
    document.merge(webhooks);
}
