//! Which objects and unfinished uploads there are, in SQLite.
//!
//! Owns: keys, headers, entity tags, conditions on writes. Does not own: bytes (`blobs`). Time is a parameter, in
//! milliseconds since 1970. Invariants: each call is one transaction, durable when it returns, so an object appears
//! whole, with its headers, or not at all, and of two conditional writes of one key exactly one succeeds.
//! Calls that unname files return the files' names; deleting them is the caller's part.

use crate::disk::Aborted;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS objects (
        key TEXT PRIMARY KEY, blob TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
        modified_ms INTEGER NOT NULL, headers TEXT NOT NULL, checksums TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS uploads (
        id TEXT PRIMARY KEY, key TEXT NOT NULL, headers TEXT NOT NULL, created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS parts (
        upload TEXT NOT NULL REFERENCES uploads(id) ON DELETE CASCADE, number INTEGER NOT NULL,
        blob TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified_ms INTEGER NOT NULL,
        PRIMARY KEY (upload, number)
    ) STRICT, WITHOUT ROWID;
";

const OBJECT: &str = "key, blob, size, etag, modified_ms, headers, checksums";

/// A stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) blob: String,
    pub(crate) size: u64,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified_ms: i64,
    pub(crate) headers: Headers,
    pub(crate) checksums: Checksums,
}

/// Headers given at the upload and given back at each download.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Headers {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) cache_control: Option<String>,
    /// `x-amz-meta-…`, without that prefix.
    pub(crate) user: BTreeMap<String, String>,
}

/// Checksums of the whole object, in base64, of the algorithms its writer asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksums {
    pub(crate) crc32: Option<String>,
    pub(crate) crc32c: Option<String>,
    pub(crate) crc64nvme: Option<String>,
    pub(crate) sha1: Option<String>,
    pub(crate) sha256: Option<String>,
}

/// What must hold of the key for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    None,
    Absent,
    Present,
    HasEtag(String),
}

/// An unfinished multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) headers: Headers,
    pub(crate) created_ms: i64,
}

/// A part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: i32,
    pub(crate) blob: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
    pub(crate) modified_ms: i64,
}

/// Why a call did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("the condition on the key does not hold")]
    PreconditionFailed,
    #[error("no such upload")]
    NoSuchUpload,
    #[error("the bucket's index failed")]
    Database(#[from] rusqlite::Error),
    #[error("the bucket's index holds a row it cannot read")]
    Row(#[from] serde_json::Error),
    #[error(transparent)]
    Aborted(#[from] Aborted),
}

pub(crate) struct Index {
    connection: Connection,
}

impl Index {
    pub(crate) fn open(path: &Path) -> Result<Self, rusqlite::Error> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection })
    }

    fn begin(&mut self) -> Result<Transaction<'_>, rusqlite::Error> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Every file some row names.
    pub(crate) fn blobs(&self) -> Result<HashSet<String>, IndexError> {
        let mut select = self.connection.prepare("SELECT blob FROM objects UNION SELECT blob FROM parts")?;
        let names = select.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Object>, IndexError> {
        let mut select = self.connection.prepare_cached(&format!("SELECT {OBJECT} FROM objects WHERE key = ?1"))?;
        select.query_row([key], |row| Ok(object(row))).optional()?.transpose()
    }

    /// Whether a write with this precondition could happen now.
    pub(crate) fn check(&self, key: &str, precondition: &Precondition) -> Result<(), IndexError> {
        check(&self.connection, key, precondition).map(|_| ())
    }

    /// Stores the object if the precondition holds; the file of the one it replaces.
    pub(crate) fn put(&mut self, object: &Object, precondition: &Precondition) -> Result<Vec<String>, IndexError> {
        let transaction = self.begin()?;
        let replaced = check(&transaction, &object.key, precondition)?;
        write(&transaction, object)?;
        transaction.commit()?;
        Ok(replaced.into_iter().map(|stored| stored.blob).collect())
    }

    /// Deletes the objects; their files. Keys without an object are passed over.
    pub(crate) fn delete(&mut self, keys: &[String]) -> Result<Vec<String>, IndexError> {
        let transaction = self.begin()?;
        let mut blobs = Vec::new();
        for key in keys {
            let deleted: Option<String> = transaction
                .prepare_cached("DELETE FROM objects WHERE key = ?1 RETURNING blob")?
                .query_row([key], |row| row.get(0))
                .optional()?;
            blobs.extend(deleted);
        }
        transaction.commit()?;
        Ok(blobs)
    }

    /// Up to `max` objects whose keys start with `prefix` and come after `after`, in the order of their keys.
    pub(crate) fn list(&self, prefix: &str, after: &str, max: usize) -> Result<Vec<Object>, IndexError> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {OBJECT} FROM objects WHERE key >= ?1 AND key > ?2 ORDER BY key LIMIT ?3"
        ))?;
        let mut rows = select.query(params![prefix, after, max as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let object = object(row)?;
            if !object.key.starts_with(prefix) {
                break;
            }
            found.push(object);
        }
        Ok(found)
    }

    /// Deletes the objects under `prefix` written before `before_ms`; their files.
    pub(crate) fn expire_objects(&mut self, prefix: &str, before_ms: i64) -> Result<Vec<String>, IndexError> {
        let transaction = self.begin()?;
        let blobs = {
            let mut delete = transaction.prepare(
                "DELETE FROM objects WHERE substr(key, 1, length(?1)) = ?1 AND modified_ms < ?2 RETURNING blob",
            )?;
            let blobs = delete.query_map(params![prefix, before_ms], |row| row.get(0))?;
            blobs.collect::<Result<Vec<String>, _>>()?
        };
        transaction.commit()?;
        Ok(blobs)
    }

    pub(crate) fn create_upload(&mut self, upload: &Upload) -> Result<(), IndexError> {
        self.connection.execute(
            "INSERT INTO uploads VALUES (?1, ?2, ?3, ?4)",
            params![upload.id, upload.key, serde_json::to_string(&upload.headers)?, upload.created_ms],
        )?;
        Ok(())
    }

    pub(crate) fn upload(&self, id: &str, key: &str) -> Result<Upload, IndexError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, key, headers, created_ms FROM uploads WHERE id = ?1 AND key = ?2")?;
        select.query_row([id, key], |row| Ok(upload(row))).optional()?.unwrap_or(Err(IndexError::NoSuchUpload))
    }

    pub(crate) fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, IndexError> {
        let mut select =
            self.connection.prepare_cached("SELECT id, key, headers, created_ms FROM uploads ORDER BY key, id")?;
        let mut rows = select.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(upload(row)?);
        }
        found.retain(|upload| upload.key.starts_with(prefix));
        Ok(found)
    }

    /// Stores a part; the file of the one it replaces.
    pub(crate) fn put_part(&mut self, upload: &str, part: &Part) -> Result<Vec<String>, IndexError> {
        let transaction = self.begin()?;
        if !transaction.prepare_cached("SELECT 1 FROM uploads WHERE id = ?1")?.exists([upload])? {
            return Err(IndexError::NoSuchUpload);
        }
        let replaced: Option<String> = transaction
            .prepare_cached("DELETE FROM parts WHERE upload = ?1 AND number = ?2 RETURNING blob")?
            .query_row(params![upload, part.number], |row| row.get(0))
            .optional()?;
        transaction.execute(
            "INSERT INTO parts VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![upload, part.number, part.blob, part.size as i64, part.etag, part.modified_ms],
        )?;
        transaction.commit()?;
        Ok(replaced.into_iter().collect())
    }

    /// The upload's parts, in order.
    pub(crate) fn parts(&self, upload: &str) -> Result<Vec<Part>, IndexError> {
        parts(&self.connection, upload)
    }

    /// Turns the upload into the object made of it, if the precondition holds; the files no longer named.
    pub(crate) fn complete(
        &mut self,
        upload: &str,
        object: &Object,
        precondition: &Precondition,
    ) -> Result<Vec<String>, IndexError> {
        let transaction = self.begin()?;
        let replaced = check(&transaction, &object.key, precondition)?;
        let mut blobs = remove_upload(&transaction, upload)?;
        write(&transaction, object)?;
        transaction.commit()?;
        blobs.extend(replaced.map(|stored| stored.blob));
        Ok(blobs)
    }

    /// Forgets the upload; its files.
    pub(crate) fn abort(&mut self, upload: &str) -> Result<Vec<String>, IndexError> {
        let transaction = self.begin()?;
        let blobs = remove_upload(&transaction, upload)?;
        transaction.commit()?;
        Ok(blobs)
    }
}

struct Stored {
    blob: String,
    etag: String,
}

/// What is stored under the key, if the precondition holds of it.
fn check(connection: &Connection, key: &str, precondition: &Precondition) -> Result<Option<Stored>, IndexError> {
    let stored = connection
        .prepare_cached("SELECT blob, etag FROM objects WHERE key = ?1")?
        .query_row([key], |row| Ok(Stored { blob: row.get(0)?, etag: row.get(1)? }))
        .optional()?;
    let holds = match precondition {
        Precondition::None => true,
        Precondition::Absent => stored.is_none(),
        Precondition::Present => stored.is_some(),
        Precondition::HasEtag(wanted) => stored.as_ref().is_some_and(|stored| stored.etag == *wanted),
    };
    if holds { Ok(stored) } else { Err(IndexError::PreconditionFailed) }
}

fn write(connection: &Connection, object: &Object) -> Result<(), IndexError> {
    let Object { key, blob, size, etag, modified_ms, headers, checksums } = object;
    let (headers, checksums) = (serde_json::to_string(headers)?, serde_json::to_string(checksums)?);
    connection
        .prepare_cached("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![key, blob, *size as i64, etag, modified_ms, headers, checksums])?;
    Ok(())
}

fn remove_upload(connection: &Connection, upload: &str) -> Result<Vec<String>, IndexError> {
    let blobs = parts(connection, upload)?.into_iter().map(|part| part.blob).collect();
    if connection.execute("DELETE FROM uploads WHERE id = ?1", [upload])? == 0 {
        return Err(IndexError::NoSuchUpload);
    }
    Ok(blobs)
}

fn parts(connection: &Connection, upload: &str) -> Result<Vec<Part>, IndexError> {
    let mut select = connection
        .prepare_cached("SELECT number, blob, size, etag, modified_ms FROM parts WHERE upload = ?1 ORDER BY number")?;
    let rows = select.query_map([upload], |row| {
        Ok(Part {
            number: row.get(0)?,
            blob: row.get(1)?,
            size: row.get(2)?,
            etag: row.get(3)?,
            modified_ms: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn object(row: &Row<'_>) -> Result<Object, IndexError> {
    let (headers, checksums): (String, String) = (row.get(5)?, row.get(6)?);
    Ok(Object {
        key: row.get(0)?,
        blob: row.get(1)?,
        size: row.get(2)?,
        etag: row.get(3)?,
        modified_ms: row.get(4)?,
        headers: serde_json::from_str(&headers)?,
        checksums: serde_json::from_str(&checksums)?,
    })
}

fn upload(row: &Row<'_>) -> Result<Upload, IndexError> {
    let headers: String = row.get(2)?;
    Ok(Upload { id: row.get(0)?, key: row.get(1)?, headers: serde_json::from_str(&headers)?, created_ms: row.get(3)? })
}
