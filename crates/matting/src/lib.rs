//! The media engine: probe, decode, model, composite, encode, verify.

pub mod registry;
pub mod tfjs;
