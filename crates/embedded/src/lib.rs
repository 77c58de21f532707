//! The embedded AWS of one machine: hosts for DynamoDB and S3, and our SQS.
