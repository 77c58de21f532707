//! DynamoDB of one machine: `dynoxide`'s database, called in-process.
//!
//! Owns: the table of operations and the translation of their errors to the wire. Does not own: the socket and
//! the signature check (`endpoint`), which tables there are (`bootstrap`).
//! Why not `dynoxide`'s own server: it checks no signatures and answers `access-control-allow-origin: *`, so any
//! web page open on this machine could read the tables; and it runs SQLite on the async threads.
//! Invariant: a write that was answered is on the disk. `dynoxide` sets WAL and leaves `synchronous` at SQLite's
//! default, FULL (tested below). Its memory of `ClientRequestToken`s does not outlive the process.

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The status and the JSON body of an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Runs the operation named after `DynamoDB_20120810.`. Blocks on the disk: not for an async thread.
pub(crate) fn call(database: &Database, operation: &str, body: &[u8]) -> Answer {
    match dispatch(database, operation, body) {
        Ok(body) => Answer { status: 200, body },
        Err(error) => {
            if error.status_code() >= 500 {
                tracing::error!(operation, error = %error, "the embedded DynamoDB failed");
            }
            Answer { status: error.status_code(), body: error.to_json() }
        }
    }
}

fn dispatch(db: &Database, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
    match operation {
        "GetItem" => run(body, |r| db.get_item(r)),
        "PutItem" => run(body, |r| db.put_item(r)),
        "UpdateItem" => run(body, |r| db.update_item(r)),
        "DeleteItem" => run(body, |r| db.delete_item(r)),
        "Query" => run(body, |r| db.query(r)),
        "Scan" => run(body, |r| db.scan(r)),
        "BatchGetItem" => run(body, |r| db.batch_get_item(r)),
        "BatchWriteItem" => run(body, |r| db.batch_write_item(r)),
        "TransactGetItems" => run(body, |r| db.transact_get_items(r)),
        "TransactWriteItems" => run(body, |r| db.transact_write_items(r)),
        "CreateTable" => run(body, |r| db.create_table(r)),
        "DescribeTable" => run(body, |r| db.describe_table(r)),
        "DeleteTable" => run(body, |r| db.delete_table(r)),
        "ListTables" => run(body, |r| db.list_tables(r)),
        "UpdateTimeToLive" => run(body, |r| db.update_time_to_live(r)),
        "DescribeTimeToLive" => run(body, |r| db.describe_time_to_live(r)),
        other => Err(DynoxideError::UnsupportedCapability(other.to_owned())),
    }
}

fn run<Request: DeserializeOwned, Response: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Request) -> dynoxide::Result<Response>,
) -> dynoxide::Result<String> {
    let request = serde_json::from_slice(body).map_err(|error| unreadable(&error.to_string()))?;
    let response = operation(request)?;
    serde_json::to_string(&response).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The error class of a request `dynoxide`'s types refuse. They tell it by a prefix of the message (see its
/// `serde_errors`, private); without one, a value of the wrong JSON type is a `SerializationException`.
fn unreadable(message: &str) -> DynoxideError {
    let plain = message.rsplit_once(" at line ").map_or(message, |(plain, _)| plain);
    let (class, plain) = match plain.split_once(':') {
        Some((class, rest)) if class.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') => (class, rest),
        _ => ("", plain),
    };
    let plain = plain.trim_start().to_owned();
    let missing = ["missing field", "unknown variant", "invalid type: null", "AttributeValue"];
    if class.starts_with("VALIDATION") || (class.is_empty() && missing.iter().any(|m| plain.contains(m))) {
        DynoxideError::ValidationException(plain)
    } else {
        DynoxideError::SerializationException(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_syncs_every_commit_to_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ddb.sqlite");
        let _database = Database::new(path.to_str().unwrap()).unwrap();
        // `dynoxide` sets WAL, which the file remembers, and leaves `synchronous` alone, so what a fresh connection
        // of the same SQLite has is what it has: 2, FULL.
        let connection = rusqlite::Connection::open(path).unwrap();
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!((journal.as_str(), synchronous), ("wal", 2));
    }

    #[test]
    fn a_request_that_cannot_be_read_is_the_callers_fault() {
        let database = Database::memory().unwrap();
        for (operation, body, kind) in [
            ("PutItem", "{", "SerializationException"),
            ("PutItem", "{\"TableName\": 7, \"Item\": {}}", "SerializationException"),
            ("GetItem", "{\"TableName\": \"t\", \"Key\": {\"k\": {}}}", "ValidationException"),
            (
                "GetItem",
                "{\"TableName\": \"t\", \"Key\": {\"k\": {\"S\": \"a\", \"N\": \"1\"}}}",
                "ValidationException",
            ),
            ("PutItem", "{\"TableName\": \"t\", \"Item\": {\"k\": {\"SS\": [\"a\", \"a\"]}}}", "ValidationException"),
            ("PutItem", "{\"TableName\": \"t\", \"Item\": {\"k\": {\"N\": \"x\"}}}", "ValidationException"),
        ] {
            let answer = call(&database, operation, body.as_bytes());
            assert_eq!(answer.status, 400, "{body}");
            assert!(answer.body.contains(kind), "{body}: {}", answer.body);
            assert!(!answer.body.contains("VALIDATION") && !answer.body.contains("at line"), "{}", answer.body);
        }
        assert_eq!(call(&database, "ExecuteStatement", b"{}").status, 501);
    }
}
