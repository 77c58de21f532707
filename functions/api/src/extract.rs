//! JSON bodies and query values, read into types with errors that name the field.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use rotoless_contract::api::JobRequest;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::App;
use crate::auth::{Given, single};
use crate::envelope::ApiError;
use crate::intake::{self, Bounds, Fault};

/// Greatest JSON body, and how long it may take to come.
pub(crate) const JSON_BODY: Bounds = Bounds { bytes: 256 * 1024, time: Duration::from_secs(10) };

/// A JSON body as received: within its bounds, not yet parsed. `Content-Type` is not asked: clients differ.
pub(crate) struct JsonBytes(pub(crate) Bytes);

impl FromRequest<App> for JsonBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        if let Given::Twice = single(&parts.headers, header::CONTENT_TYPE.as_str()) {
            return Err(ApiError::invalid("Content-Type was sent more than once"));
        }
        read(&parts.headers, body).await.map(Self)
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    if content_length(headers).is_some_and(|length| length > JSON_BODY.bytes) {
        return Err(ApiError::too_large());
    }
    intake::whole(body, JSON_BODY).await.map_err(|fault| match fault {
        Fault::TooLarge => ApiError::too_large(),
        Fault::TooSlow => ApiError::invalid("The body did not come in time"),
        Fault::Broken | Fault::Unusable => ApiError::invalid("The body broke off"),
    })
}

/// The length that the sender announced.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl JsonBytes {
    /// The body as `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        // An array would be read as the fields of a struct in their order.
        if self.0.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|first| *first != b'{') {
            return Err(ApiError::invalid("The body must be a JSON object"));
        }
        serde_json::from_slice(&self.0).map_err(|err| unreadable(&err))
    }

    /// The body as JSON of any shape.
    pub(crate) fn value(&self) -> Result<Value, ApiError> {
        self.parse()
    }

    /// A job's request; one with no bytes at all counts as `{}`.
    pub(crate) fn job_request(&self) -> Result<JobRequest, ApiError> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Ok(JobRequest::default());
        }
        self.parse().map_err(|err| match self.parse().ok().and_then(field_at_fault) {
            Some(param) => err.with_param(param),
            None => err,
        })
    }
}

/// The first field of a job's request that is not of its type.
fn field_at_fault(fields: Map<String, Value>) -> Option<&'static str> {
    const FIELDS: [&str; 13] = [
        "video_url",
        "model",
        "bg_type",
        "bg_color",
        "bg_image_url",
        "bg_video_url",
        "background",
        "output_format",
        "text_prompt",
        "webhook_url",
        "auto_start",
        "metadata",
        "composition",
    ];
    fields.into_iter().find_map(|(name, value)| {
        let known = FIELDS.into_iter().find(|field| *field == name)?;
        let alone = Value::Object(Map::from_iter([(name, value)]));
        serde_json::from_value::<JobRequest>(alone).is_err().then_some(known)
    })
}

fn unreadable(err: &serde_json::Error) -> ApiError {
    let message: Cow<'static, str> = match err.classify() {
        serde_json::error::Category::Data => {
            let what: String = err.to_string().chars().take(200).collect();
            format!("The body is not of the expected form: {what}").into()
        }
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            "The body is not valid JSON".into()
        }
    };
    ApiError::invalid(message)
}

/// A value of the query; an empty one counts as absent.
pub(crate) fn query_value<T: FromStr>(text: Option<&str>, param: &'static str) -> Result<Option<T>, ApiError> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| ApiError::field(param, format!("{param} is not valid"))),
    }
}

/// A query as it came.
pub(crate) type Asked<T> = Result<Query<T>, QueryRejection>;

/// The query's values, not yet judged.
pub(crate) fn readable<T>(asked: Asked<T>) -> Result<T, ApiError> {
    asked.map(|Query(params)| params).map_err(|_| ApiError::invalid("The query is not readable"))
}

/// A number of the query from 1 to `most`.
pub(crate) fn up_to(most: u32, text: Option<&str>, param: &'static str, default: u32) -> Result<u32, ApiError> {
    let value = query_value(text, param)?.unwrap_or(default);
    if !(1..=most).contains(&value) {
        return Err(ApiError::field(param, format!("{param} must be between 1 and {most}")));
    }
    Ok(value)
}
