//! The rules of the control plane: what may happen to a job and to credits, and the use cases that make it happen.
//!
//! Owns: the job life cycle ([`lifecycle`]), the credit ledger ([`ledger`]), the wake arithmetic ([`wake`]), who is awake
//! ([`eventcount`]), the webhook schedule ([`schedule`]), rate limits ([`rate`]), validation of requests ([`request`]), the ports ([`ports`]) and the use cases
//! ([`usecase`]). Does not own: storage, HTTP, clocks and randomness, which come in through the ports.
//!
//! Invariants: a job changes only through [`lifecycle::apply`]; every change is one [`ports::Change`], committed
//! whole or not at all, on condition that the job is still at the version that was judged.
#![deny(missing_docs)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod api_key;
pub mod books;
pub mod eventcount;
pub mod header;
pub mod ledger;
pub mod lifecycle;
pub mod policy;
pub mod ports;
pub mod rate;
pub mod record;
pub mod request;
pub mod schedule;
pub mod signing;
pub mod source;
pub mod usage;
pub mod usecase;
pub mod view;
pub mod wake;
