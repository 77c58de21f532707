//! The public routes over the embedded AWS: no sockets in between, the real store behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod account;
mod admin;
mod bounds;
mod calls;
mod deleted;
mod document;
mod documented;
mod envelope;
mod exports;
mod faults;
mod form;
mod gateway;
mod idempotency;
mod jobs;
mod limits;
mod logs;
mod presigned;
mod provoked;
mod public;
mod story;
mod world;
