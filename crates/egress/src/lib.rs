//! The only code that opens a URL given by a user.
//!
//! Owns: which URLs and addresses may be opened ([`Policy`], [`judge`]) and the bounded exchange ([`Egress`]): a POST, or a GET into
//! a file.
//! Does not own: what is sent, and when it is tried again.
//!
//! Invariants: the address that was judged is the address that is dialled, every time; no redirect, proxy, cookie
//! or kept connection; every exchange has a time cap and every reply a byte cap.
#![deny(missing_docs)]

mod address;
mod client;
mod exception;
mod fetch;
mod policy;

pub use address::{Forbidden, judge};
pub use client::{Answer, Egress, EgressError, Limits, Resolve, SystemResolver, TlsFault};
pub use exception::{Exception, InvalidException};
pub use fetch::{FetchError, FetchLimits};
pub use policy::{Policy, Refused, Target};
