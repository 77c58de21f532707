//! The adapters against the embedded AWS, and against a network that loses replies.

mod faults;
mod jobs;
mod money;
mod objects;
mod queue;
mod records;
mod world;
