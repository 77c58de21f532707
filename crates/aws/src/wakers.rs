//! Wakers: what makes a worker exist. One module each; which one runs is the configuration's choice.
//!
//! Invariant: a wake is a hint. Losing or doubling one changes latency, never correctness, because the queue keeps
//! the work and the sweep wakes again for what is still visible.

pub mod choice;
mod ecs;
mod homes;
mod in_process;
mod runpod;

pub use choice::{EcsSettings, Home, RunPodSettings, WakeSettings, WakerSettings};
pub use ecs::EcsTasks;
pub use homes::{Drain, Homes};
pub use in_process::InProcessWaker;
pub use runpod::RunPodWaker;
