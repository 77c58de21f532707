//! The media engine: probe, decode, model, composite, encode, verify.
