//! The adapters of the control plane's ports: DynamoDB, S3, SQS.
