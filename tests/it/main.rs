//! One integration binary: each of its files is named after what it promises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod aws_conformance;
mod conformance;
mod crashes;
mod doctor;
mod ecs;
mod faults;
mod fuzz;
mod guarantees;
mod homes;
mod hostile_requests;
mod journey;
mod lambda;
mod metrics;
mod money;
mod one_machine;
mod operate;
mod refusals;
mod runpod;
mod sharing;
mod template;
mod world;
