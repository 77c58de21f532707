//! The workers' routes over an embedded AWS: what is believed, from whom, and for how long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod links;
mod metrics;
mod reports;
mod signatures;
mod world;
