//! One integration binary: each of its files is named after what it promises.

mod aws_conformance;
mod architecture;
