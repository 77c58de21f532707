//! The public routes over the embedded AWS: no sockets in between, the real store behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod admin;
mod bounds;
mod document;
mod envelope;
mod form;
mod idempotency;
mod jobs;
mod presigned;
mod public;
mod world;
