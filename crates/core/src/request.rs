//! From what a client sent to what is ordered: validation of `POST /v1/jobs` and `POST /v1/jobs/{id}/start`.
//!
//! Where the public contract contradicted itself, http-contract.md §2 decides; each decision has a test below.

mod background;

use rotoless_contract::api::{CompositionRequest, JobRequest};
use rotoless_contract::prompt::PromptError;
use rotoless_contract::spec::{Anchor, Composition};
use rotoless_contract::{JobSpec, Model, OutputFormat};
use serde_json::{Map, Value};
use url::Url;

use crate::policy::{Policy, Prompts};

/// Greatest length of a URL in bytes.
const MAX_URL: usize = 2048;
/// Greatest length of a prompt in characters.
const MAX_PROMPT: usize = 500;
/// Greatest size of `metadata` as JSON, in bytes, and its greatest depth.
const MAX_METADATA: (usize, usize) = (4096, 8);

/// What is wrong with a request, in words for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// One sentence.
    pub message: String,
    /// The field at fault.
    pub param: Option<&'static str>,
    /// A stable word for programs.
    pub reason: Option<&'static str>,
}

impl InvalidRequest {
    /// A field with a value that is not allowed.
    #[must_use]
    pub fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param), reason: None }
    }

    /// The same with a stable reason.
    #[must_use]
    pub fn with_reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }
}

/// What a valid request orders.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// For the worker.
    pub spec: JobSpec,
    /// Where events go.
    pub webhook_url: Option<String>,
    /// Echoed.
    pub metadata: Option<Map<String, Value>>,
    /// Begin at once.
    pub auto_start: bool,
    /// What was ignored, and why.
    pub warnings: Vec<String>,
}

/// Validates a request.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn validate(request: &JobRequest, policy: &Policy) -> Result<Order, InvalidRequest> {
    let mut warnings = unknown_fields(request);
    let model = named(request.model.as_deref(), "model", Model::Original)?;
    let output_format = named(request.output_format.as_deref(), "output_format", OutputFormat::Webm)?;
    let background = background::resolve(request, output_format)?;
    let text_prompt = prompt(request.text_prompt.as_deref(), model, &policy.prompts, &mut warnings)?;
    let composition = request.composition.as_ref().map(composition).transpose()?;
    let webhook_url = request.webhook_url.as_deref().filter(|url| !url.is_empty());
    if let Some(url) = webhook_url {
        http_url(url, "webhook_url", policy.allow_http)?;
    }
    if let Some(metadata) = &request.metadata {
        check_metadata(metadata)?;
    }
    Ok(Order {
        spec: JobSpec { model, background, output_format, text_prompt, composition },
        webhook_url: webhook_url.map(str::to_owned),
        metadata: request.metadata.clone(),
        auto_start: request.auto_start.unwrap_or(true),
        warnings,
    })
}

/// A draft's request with the fields of a start laid over it. `video_url` and `auto_start` are the draft's.
#[must_use]
pub fn overlay(draft: &JobRequest, start: &JobRequest) -> JobRequest {
    let sets_background = start.background.is_some() || start.bg_type.is_some();
    // A new kind of background replaces the old one whole; a lone colour or URL changes the kind that is there.
    let base = if sets_background {
        JobRequest {
            background: None,
            bg_type: None,
            bg_color: None,
            bg_image_url: None,
            bg_video_url: None,
            ..draft.clone()
        }
    } else {
        draft.clone()
    };
    JobRequest {
        video_url: draft.video_url.clone(),
        model: start.model.clone().or(base.model),
        bg_type: start.bg_type.clone().or(base.bg_type),
        bg_color: start.bg_color.clone().or(base.bg_color),
        bg_image_url: start.bg_image_url.clone().or(base.bg_image_url),
        bg_video_url: start.bg_video_url.clone().or(base.bg_video_url),
        background: start.background.clone().or(base.background),
        output_format: start.output_format.clone().or(base.output_format),
        text_prompt: start.text_prompt.clone().or(base.text_prompt),
        webhook_url: start.webhook_url.clone().or(base.webhook_url),
        auto_start: draft.auto_start,
        metadata: start.metadata.clone().or(base.metadata),
        composition: start.composition.clone().or(base.composition),
        unknown: start.unknown.clone(),
    }
}

fn unknown_fields(request: &JobRequest) -> Vec<String> {
    let nested = request.background.iter().flat_map(|background| background.unknown.keys());
    let names = request.unknown.keys().cloned().chain(nested.map(|name| format!("background.{name}")));
    // Named, not echoed at any length: a request may hold thousands of them.
    let mut names: Vec<String> = names.map(|name| name.chars().take(64).collect()).collect();
    let more = names.len().saturating_sub(20);
    names.truncate(20);
    let mut warnings: Vec<String> = names.iter().map(|name| format!("unknown field `{name}` was ignored")).collect();
    if more > 0 {
        warnings.push(format!("{more} more unknown fields were ignored"));
    }
    warnings
}

fn named<T: std::str::FromStr<Err = rotoless_contract::spec::UnknownName>>(
    text: Option<&str>,
    param: &'static str,
    default: T,
) -> Result<T, InvalidRequest> {
    match text {
        None => Ok(default),
        Some(text) => text.parse().map_err(|err| InvalidRequest::field(param, format!("{param} {err}"))),
    }
}

fn prompt(
    text: Option<&str>,
    model: Model,
    prompts: &Prompts,
    warnings: &mut Vec<String>,
) -> Result<Option<String>, InvalidRequest> {
    if text.is_some_and(|text| text.chars().count() > MAX_PROMPT) {
        return Err(InvalidRequest::field(
            "text_prompt",
            format!("text_prompt is longer than {MAX_PROMPT} characters"),
        ));
    }
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    match model {
        Model::Pro => {
            let unknown = |error: PromptError| {
                InvalidRequest::field("text_prompt", format!("text_prompt: {error}")).with_reason("unknown_subject")
            };
            prompts.check(text).map_err(unknown)?;
            Ok(Some(text.to_owned()))
        }
        Model::Original | Model::Light | Model::Human => {
            warnings.push(format!("text_prompt is used by model `pro` only and was ignored for `{model}`"));
            Ok(None)
        }
    }
}

fn composition(request: &CompositionRequest) -> Result<Composition, InvalidRequest> {
    let invalid = |message: &str| InvalidRequest::field("composition", message);
    for side in [request.canvas.width, request.canvas.height] {
        if !(16..=4096).contains(&side) || side % 2 != 0 {
            return Err(invalid("composition.canvas width and height must be even and between 16 and 4096"));
        }
    }
    let foreground = request.foreground.clone().unwrap_or_default();
    let anchor = named(foreground.anchor.as_deref(), "composition.foreground.anchor", Anchor::Center)?;
    let scale = foreground.scale.unwrap_or(1.0);
    if !(scale.is_finite() && (0.01..=16.0).contains(&scale)) {
        return Err(invalid("composition.foreground.scale must be between 0.01 and 16"));
    }
    let offset = foreground.offset.unwrap_or_default();
    if offset.x.unsigned_abs() > 8192 || offset.y.unsigned_abs() > 8192 {
        return Err(invalid("composition.foreground.offset must be between -8192 and 8192"));
    }
    let (width, height) = (request.canvas.width, request.canvas.height);
    Ok(Composition { width, height, anchor, scale, offset: [offset.x, offset.y] })
}

/// A URL that a stranger chose: its form alone is judged here, its addresses where it is opened.
pub(crate) fn http_url(text: &str, param: &'static str, allow_http: bool) -> Result<Url, InvalidRequest> {
    let invalid = |message: &str| InvalidRequest::field(param, format!("{param} {message}"));
    if text.len() > MAX_URL {
        return Err(invalid("is longer than 2048 bytes"));
    }
    let url = Url::parse(text).map_err(|_| invalid("is not a URL"))?;
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        _ => return Err(invalid("must use https")),
    }
    if url.host().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must name a host and carry no credentials"));
    }
    Ok(url)
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), InvalidRequest> {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    let (max_bytes, max_depth) = MAX_METADATA;
    let size = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if size > max_bytes {
        return Err(InvalidRequest::field("metadata", "metadata is larger than 4096 bytes"));
    }
    if 1 + metadata.values().map(depth).max().unwrap_or(0) > max_depth {
        return Err(InvalidRequest::field("metadata", "metadata is nested deeper than 8 levels"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rotoless_contract::Background;
    use rotoless_contract::spec::Rgb;
    use serde_json::json;

    use super::*;

    fn order(body: Value) -> Result<Order, InvalidRequest> {
        validate(&serde_json::from_value(body).unwrap(), &Policy::default())
    }

    fn background(body: Value) -> Background {
        order(body).unwrap().spec.background
    }

    fn color(rgb: [u8; 3]) -> Background {
        Background::Color { color: Rgb(rgb) }
    }

    #[test]
    fn flat_fields_alone_are_enough_as_clients_send_them() {
        let order = order(json!({"video_url": "u", "model": "original", "bg_type": "green", "output_format": "webm", "auto_start": true})).unwrap();
        assert_eq!(order.spec.background, color([9, 162, 70]));
        assert!(order.auto_start && order.warnings.is_empty());
    }

    #[test]
    fn a_colour_is_read_in_every_form_and_nothing_else_is() {
        let custom = |bg_color: Value| order(json!({"bg_type": "custom", "bg_color": bg_color}));
        for (form, rgb) in [
            (json!([0.0, 0.5, 1.0]), [0, 128, 255]),
            (json!([0, 128, 255]), [0, 128, 255]),
            (json!([1, 1, 1]), [255, 255, 255]),
            (json!("#08f"), [0, 136, 255]),
            (json!("#0080FF"), [0, 128, 255]),
        ] {
            assert_eq!(custom(form).unwrap().spec.background, color(rgb));
        }
        for bad in
            [json!([0, 0]), json!([0, 0, 256]), json!([-1, 0, 0]), json!("#12"), json!("red"), json!({}), json!(null)]
        {
            assert!(custom(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_background_object_wins_over_the_flat_fields() {
        let body = json!({"bg_type": "green", "background": {"type": "color", "color": "#000"}});
        assert_eq!(background(body), color([0, 0, 0]));
    }

    #[test]
    fn mp4_carries_no_alpha() {
        assert_eq!(background(json!({"output_format": "mp4"})), color([9, 162, 70]));
        assert!(order(json!({"output_format": "mp4", "bg_type": "transparent"})).is_err());
        assert_eq!(background(json!({})), Background::Transparent);
    }

    #[test]
    fn unknown_fields_are_named_and_a_prompt_for_another_model_is_ignored() {
        let order = order(json!({"colour": 1, "text_prompt": "the dog", "model": "human"})).unwrap();
        assert_eq!(order.spec.text_prompt, None);
        assert_eq!(order.warnings.len(), 2);
    }

    #[test]
    fn a_prompt_is_understood_or_refused_with_what_is_known() {
        let of = |text: &str| order(json!({"model": "pro", "text_prompt": text}));
        assert_eq!(of(" the left dog ").unwrap().spec.text_prompt.as_deref(), Some("the left dog"));
        assert_eq!(of("  ").unwrap().spec.text_prompt, None);
        let refused = of("dog, unicorn").unwrap_err();
        assert_eq!((refused.param, refused.reason), (Some("text_prompt"), Some("unknown_subject")));
        assert!(refused.message.contains("`unicorn`") && refused.message.contains("toothbrush"), "{}", refused.message);
        let open = Policy { prompts: Prompts::Open, ..Policy::default() };
        let request = serde_json::from_value(json!({"model": "pro", "text_prompt": "unicorn"})).unwrap();
        assert!(validate(&request, &open).is_ok());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_the_field_named() {
        let long = "x".repeat(501);
        for (body, param) in [
            (json!({"model": "best"}), "model"),
            (json!({"output_format": "avi"}), "output_format"),
            (json!({"model": "pro", "text_prompt": long}), "text_prompt"),
            (json!({"bg_type": "image"}), "bg_image_url"),
            (json!({"bg_type": "plaid"}), "bg_type"),
            // Also where it is not used.
            (json!({"bg_type": "plaid", "background": {"type": "blur"}}), "bg_type"),
            (json!({"bg_type": "green", "bg_color": "green"}), "bg_color"),
            (json!({"background": {"type": "blur", "video_url": "x".repeat(2049)}}), "background.video_url"),
            (json!({"text_prompt": " ".repeat(501)}), "text_prompt"),
            (json!({"webhook_url": "http://example.com/"}), "webhook_url"),
            (json!({"webhook_url": "https://u:p@example.com/"}), "webhook_url"),
            (json!({"metadata": {"a": "x".repeat(4096)}}), "metadata"),
            (json!({"metadata": {"a": [[[[[[[[1]]]]]]]]}}), "metadata"),
            (json!({"composition": {"canvas": {"width": 15, "height": 16}}}), "composition"),
            (
                json!({"composition": {"canvas": {"width": 16, "height": 16}, "foreground": {"offset": {"x": i32::MIN}}}}),
                "composition",
            ),
        ] {
            assert_eq!(order(body).unwrap_err().param, Some(param));
        }
    }

    #[test]
    fn a_start_overrides_the_draft_field_by_field() {
        let request = |body: Value| serde_json::from_value::<JobRequest>(body).unwrap();
        let draft = request(json!({"video_url": "u", "bg_type": "custom", "bg_color": "#fff", "auto_start": false}));
        let merged = overlay(&draft, &request(json!({"bg_type": "transparent", "model": "human"})));
        assert_eq!((merged.bg_type.as_deref(), merged.bg_color), (Some("transparent"), None));
        assert_eq!((merged.video_url.as_deref(), merged.model.as_deref()), (Some("u"), Some("human")));
    }
}
