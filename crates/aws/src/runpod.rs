//! RunPod, as its published documents describe it (`runpod/docs` at a900806, 2026-08-20): a small client of our own.
//!
//! Owns: the public API of an endpoint ([`Endpoint`]: `/run`, `/health`, `/purge-queue`), the management API
//! ([`Management`]: endpoints and templates of `rest.runpod.io/v1`), what their failures mean ([`RunPodError`]). Does
//! not own: when a worker is wanted (`rotoless_core::wake`), whose endpoint it is ([`crate::wakers::choice`]), what an
//! endpoint should be (`infra/runpod-endpoint.json`), what a worker says to RunPod (crate `rotoless-gpu-handler`).
//!
//! Invariants: every answer is read up to a number of bytes and within a time; no redirect is followed and no proxy
//! taken from the environment; plain http leads to loopback only; keys and URLs reach no error and no log; nothing
//! here is tried twice, because whoever asks is itself a loop.

mod endpoint;
mod error;
mod exchange;
mod management;

pub use endpoint::{Endpoint, EndpointId, Health, JobCounts, RunPolicy, WorkerCounts};
pub use error::RunPodError;
pub use exchange::{BaseUrl, InvalidBaseUrl};
pub use management::{Fields, Management, Resource};

/// The public API of endpoints.
pub const API_URL: &str = "https://api.runpod.ai";
/// The management API.
pub const REST_URL: &str = "https://rest.runpod.io";
