//! The routes, one module a noun.

pub(crate) mod admin;
pub(crate) mod credits;
pub(crate) mod deliveries;
pub(crate) mod estimate;
pub(crate) mod jobs;
pub(crate) mod legacy;
pub(crate) mod public;
pub(crate) mod trail;
pub(crate) mod uploads;
pub(crate) mod usage;

use axum::Json;

use crate::envelope::ApiError;

/// What a handler gives back.
pub(crate) type Answer<T> = Result<Json<T>, ApiError>;
