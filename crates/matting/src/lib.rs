//! The media engine: probe, decode, model, composite, encode, verify.

pub mod fetch;
pub mod onnx_writer;
pub mod registry;
pub mod tfjs;
pub mod tiny;

#[cfg(test)]
mod test_runtime;
