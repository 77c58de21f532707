//! A RunPod of our own: the endpoint as a state machine, reached over HTTP, with real worker processes or with model
//! workers on a virtual clock; and what must hold on it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cloud;
mod losses;
mod platform;
mod scaling;
mod schedules;
mod shell;
mod spawner;
mod upsets;
mod virtual_time;
mod wakes;
mod wire;
