//! The background of a request: flat fields or an object, presets, colours.

use rotoless_contract::api::JobRequest;
use rotoless_contract::spec::{Fit, Rgb};
use rotoless_contract::{Background, OutputFormat};
use serde_json::Value;

use super::{InvalidRequest, MAX_URL};

/// `#09A246`: 0.035, 0.635, 0.274.
const GREEN: Rgb = Rgb([9, 162, 70]);

/// What a background may be called.
const NAMES: [&str; 10] =
    ["transparent", "green", "white", "black", "blue", "custom", "color", "image", "video", "blur"];

/// The fields of either form under one set of names, with the parameter names of errors.
struct Asked<'a> {
    kind: Option<&'a str>,
    color: Option<&'a Value>,
    image_url: Option<&'a str>,
    video_url: Option<&'a str>,
    fit: Fit,
    params: [&'static str; 4],
}

/// What stands behind the subject, whichever way it was asked for. What is not used must be well-formed all the same: a
/// mistake that nobody hears of is found in the output.
pub(super) fn resolve(request: &JobRequest, format: OutputFormat) -> Result<Background, InvalidRequest> {
    let flat = Asked {
        kind: request.bg_type.as_deref(),
        color: request.bg_color.as_ref(),
        image_url: request.bg_image_url.as_deref(),
        video_url: request.bg_video_url.as_deref(),
        fit: Fit::default(),
        params: ["bg_type", "bg_color", "bg_image_url", "bg_video_url"],
    };
    let object = request.background.as_ref().map(|object| Asked {
        kind: Some(&object.kind),
        color: object.color.as_ref(),
        image_url: object.image_url.as_deref(),
        video_url: object.video_url.as_deref(),
        fit: object.fit.unwrap_or_default(),
        params: ["background.type", "background.color", "background.image_url", "background.video_url"],
    });
    check(&flat)?;
    match object {
        None => chosen(&flat, format),
        Some(object) => {
            check(&object)?;
            chosen(&object, format)
        }
    }
}

fn check(asked: &Asked<'_>) -> Result<(), InvalidRequest> {
    let [kind_param, color_param, image_param, video_param] = asked.params;
    if asked.kind.is_some_and(|kind| !NAMES.contains(&kind)) {
        return Err(InvalidRequest::field(kind_param, format!("{kind_param} must be one of: {}", NAMES.join(", "))));
    }
    if asked.color.is_some() {
        color(asked.color, color_param)?;
    }
    for (url, param) in [(asked.image_url, image_param), (asked.video_url, video_param)] {
        if url.is_some_and(|url| url.chars().count() > MAX_URL) {
            return Err(InvalidRequest::field(param, format!("{param} is longer than {MAX_URL} characters")));
        }
    }
    Ok(())
}

fn chosen(asked: &Asked<'_>, format: OutputFormat) -> Result<Background, InvalidRequest> {
    let [kind_param, ..] = asked.params;
    let Some(kind) = asked.kind else {
        return Ok(if format.has_alpha() { Background::Transparent } else { Background::Color { color: GREEN } });
    };
    let background = match kind {
        "green" => Background::Color { color: GREEN },
        "white" => Background::Color { color: Rgb([255; 3]) },
        "black" => Background::Color { color: Rgb([0; 3]) },
        "blue" => Background::Color { color: Rgb([0, 0, 255]) },
        "custom" | "color" => Background::Color { color: color(asked.color, asked.params[1])? },
        "image" => Background::Image { image_url: media_url(asked.image_url, asked.params[2])?, fit: asked.fit },
        "video" => Background::Video { video_url: media_url(asked.video_url, asked.params[3])?, fit: asked.fit },
        "blur" => Background::Blur,
        // `transparent`: the names were checked.
        _ if format.has_alpha() => Background::Transparent,
        _ => {
            let message = format!("{format} cannot be transparent: choose a background or another output_format");
            return Err(InvalidRequest::field(kind_param, message));
        }
    };
    Ok(background)
}

fn media_url(url: Option<&str>, param: &'static str) -> Result<String, InvalidRequest> {
    match url {
        Some(url) if !url.is_empty() => Ok(url.to_owned()),
        Some(_) | None => Err(InvalidRequest::field(param, format!("{param} is required for this background"))),
    }
}

/// Three numbers (all ≤ 1: 0..1, any > 1: 0..255), `#RGB` or `#RRGGBB`.
fn color(value: Option<&Value>, param: &'static str) -> Result<Rgb, InvalidRequest> {
    let parsed = match value {
        Some(Value::Array(channels)) => numbers(channels),
        Some(Value::String(text)) => hex(text),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => None,
    };
    parsed.ok_or_else(|| {
        InvalidRequest::field(param, format!("{param} must be three numbers (0..1 or 0..255), #RGB or #RRGGBB"))
    })
}

fn numbers(channels: &[Value]) -> Option<Rgb> {
    let channels: Vec<f64> = channels.iter().map(Value::as_f64).collect::<Option<_>>()?;
    let [r, g, b] = <[f64; 3]>::try_from(channels).ok()?;
    let scale = if [r, g, b].iter().all(|channel| *channel <= 1.0) { 255.0 } else { 1.0 };
    let byte = |channel: f64| {
        let scaled = (channel * scale).round();
        (0.0..=255.0).contains(&scaled).then_some(scaled as u8)
    };
    Some(Rgb([byte(r)?, byte(g)?, byte(b)?]))
}

fn hex(text: &str) -> Option<Rgb> {
    let digits = text.strip_prefix('#')?;
    let digits: Vec<u8> = digits.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    match *digits.as_slice() {
        [r, g, b] => Some(Rgb([r * 17, g * 17, b * 17])),
        [r1, r2, g1, g2, b1, b2] => Some(Rgb([r1 * 16 + r2, g1 * 16 + g2, b1 * 16 + b2])),
        _ => None,
    }
}
