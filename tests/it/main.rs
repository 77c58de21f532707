//! One integration binary: each of its files is named after what it promises.

mod architecture;
mod aws_conformance;
mod journey;
mod world;
