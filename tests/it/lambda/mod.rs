//! The functions as Lambda runs them: the real programs under the Lambda Runtime API, over the embedded AWS, with the
//! environment that `template.yaml` gives them, fed with events of API Gateway, SQS and EventBridge.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod bad_input;
mod bench;
mod deployment;
mod events;
mod gateway;
mod journey;
mod package;
mod queue;
mod runtime_api;
mod sandbox;
mod template;
mod upgrade;
mod worker;

use rotoless_embedded::REGION;
use rotoless_embedded::template::ACCOUNT_ID as ACCOUNT;
