//! Bodies of the public routes other than the job itself, one module a noun.

mod account;
mod admin;
mod jobs;
mod public;
mod uploads;

pub use account::*;
pub use admin::*;
pub use jobs::*;
pub use public::*;
pub use uploads::*;
