//! Lambda function: what workers call.
