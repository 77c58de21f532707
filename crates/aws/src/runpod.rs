//! RunPod, as its published documents describe it (`runpod/docs` at a900806, 2026-08-20): a small client of our own.
//!
//! Owns: the public API of an endpoint ([`Endpoint`]: `/run`, `/health`, `/purge-queue`), the management API
//! ([`Management`]: endpoints and templates of `rest.runpod.io/v1`), what their failures mean ([`RunPodError`]), where
//! they are ([`RunPodSettings`]). Does not own: when a worker is wanted (`rotoless_core::wake`), which endpoint is
//! wanted (`infra/runpod-endpoint.json`), what a worker says to RunPod (crate `rotoless-gpu-handler`).
//!
//! Invariants: every answer is read up to a number of bytes and within a time; no redirect is followed and no proxy
//! taken from the environment; plain http leads to loopback only; keys and URLs reach no error and no log; nothing
//! here is tried twice, because whoever asks is itself a loop.

mod endpoint;
mod error;
mod exchange;
mod management;
mod settings;

pub use endpoint::{Endpoint, EndpointId, Health, JobCounts, RunPolicy, WorkerCounts};
pub use error::RunPodError;
pub use exchange::{BaseUrl, InvalidBaseUrl};
pub use management::{Fields, Management, Resource};
pub use settings::{KEYS, RunPodSettings};
