//! Lambda function: webhooks out.
