//! The worker: an SQS session, one attempt at a time.
