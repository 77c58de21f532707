//! Sessions against a scripted control plane, queue, store and engine, over real sockets.

mod engine;
mod handed;
mod kept;
mod links;
mod order;
mod platform;
mod queue_end;
mod runpod;
mod segments;
mod servers;
mod stops;
mod transfers;
mod world;
