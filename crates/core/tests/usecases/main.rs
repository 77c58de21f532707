//! The use cases against a store in memory that keeps exactly what the ports promise, with faults on demand and a
//! virtual clock. After every test the books are checked (`World::audit`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm)]

mod background;
mod chaos;
mod claim;
mod delete;
mod deliver;
mod endpoints;
mod every_call;
mod external;
mod faults;
mod heartbeat;
mod lagging;
mod liar;
mod limits;
mod receiver;
mod report;
mod rotation;
mod segments;
mod store;
mod submit;
mod sweep;
mod world;
