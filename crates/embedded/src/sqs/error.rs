//! What our SQS refuses, as its callers' SDKs know it.

/// A refused or failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqsError {
    #[error("The specified queue does not exist.")]
    QueueDoesNotExist,
    #[error("A queue already exists with the same name and a different value for attribute {0}.")]
    QueueNameExists(&'static str),
    #[error("The message referred to is not in flight.")]
    MessageNotInflight,
    #[error("The input receipt handle is invalid.")]
    ReceiptHandleIsInvalid,
    /// AWS has no typed error for this; its message is the one callers meet in the wild.
    #[error(
        "Value for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for \
         visibility timeout change."
    )]
    MessageGone,
    #[error("{0}")]
    InvalidParameterValue(String),
    #[error("The request must contain the parameter {0}.")]
    MissingParameter(&'static str),
    #[error("The message contains characters outside the allowed set.")]
    InvalidMessageContents,
    #[error("There should be at least one entry in the request.")]
    EmptyBatchRequest,
    #[error("Maximum number of entries per request are 10. You have sent {0}.")]
    TooManyEntriesInBatchRequest(usize),
    #[error("Id {0} repeated.")]
    BatchEntryIdsNotDistinct(String),
    #[error("A batch entry id can only contain alphanumeric characters, hyphens and underscores, at most 80.")]
    InvalidBatchEntryId,
    #[error("Batch requests cannot be longer than {0} bytes.")]
    BatchRequestTooLong(usize),
    #[error("Unknown attribute {0}.")]
    InvalidAttributeName(String),
    #[error("Invalid value for the attribute {0}.")]
    InvalidAttributeValue(&'static str),
    #[error("{0}")]
    ResourceNotFound(&'static str),
    #[error("The operation {0} is not supported here.")]
    UnsupportedOperation(String),
    #[error("The request is not the JSON expected: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the queue's database failed")]
    Database(#[from] rusqlite::Error),
    #[error("the queue's worker thread ended")]
    Aborted,
}

impl SqsError {
    /// The code SDKs tell errors apart by (header `x-amzn-query-error`), and the shape's name in the body.
    /// The two differ because the service spoke the query protocol first.
    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::QueueDoesNotExist => ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
            Self::QueueNameExists(_) => ("QueueAlreadyExists", "QueueNameExists"),
            Self::MessageNotInflight => ("AWS.SimpleQueueService.MessageNotInflight", "MessageNotInflight"),
            Self::ReceiptHandleIsInvalid => ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
            Self::MessageGone | Self::InvalidParameterValue(_) => ("InvalidParameterValue", "InvalidParameterValue"),
            Self::MissingParameter(_) => ("MissingParameter", "MissingParameter"),
            Self::InvalidMessageContents => ("InvalidMessageContents", "InvalidMessageContents"),
            Self::EmptyBatchRequest => ("AWS.SimpleQueueService.EmptyBatchRequest", "EmptyBatchRequest"),
            Self::TooManyEntriesInBatchRequest(_) => {
                ("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "TooManyEntriesInBatchRequest")
            }
            Self::BatchEntryIdsNotDistinct(_) => {
                ("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "BatchEntryIdsNotDistinct")
            }
            Self::InvalidBatchEntryId => ("AWS.SimpleQueueService.InvalidBatchEntryId", "InvalidBatchEntryId"),
            Self::BatchRequestTooLong(_) => ("AWS.SimpleQueueService.BatchRequestTooLong", "BatchRequestTooLong"),
            Self::InvalidAttributeName(_) => ("InvalidAttributeName", "InvalidAttributeName"),
            Self::InvalidAttributeValue(_) => ("InvalidAttributeValue", "InvalidAttributeValue"),
            Self::ResourceNotFound(_) => ("ResourceNotFoundException", "ResourceNotFoundException"),
            Self::UnsupportedOperation(_) => ("AWS.SimpleQueueService.UnsupportedOperation", "UnsupportedOperation"),
            Self::Malformed(_) => ("SerializationException", "SerializationException"),
            Self::Database(_) | Self::Aborted => ("InternalFailure", "InternalFailure"),
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        self.names().0
    }

    pub(crate) fn shape(&self) -> &'static str {
        self.names().1
    }

    pub(crate) fn is_callers_fault(&self) -> bool {
        !matches!(self, Self::Database(_) | Self::Aborted)
    }
}
