//! The queues' state in SQLite.
//!
//! Owns: every rule about messages: who sees one when, receipts, redrive, retention. Does not own: the wire,
//! waiting (long polls), validation of what callers send. Time is a parameter, in milliseconds since 1970.
//! Invariants: each public call is one transaction, durable when it returns; a message is in exactly one queue;
//! a message is visible, in flight or delayed by `visible_ms` and `receipt` alone; only the newest receipt counts.

use super::chaos::Dice;
use super::error::SqsError;
use super::settings::{MAX_VISIBILITY_SECONDS, QueueSettings};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::Path;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queues (
        name TEXT PRIMARY KEY, settings TEXT NOT NULL, created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL REFERENCES queues(name) ON DELETE CASCADE,
        message_id TEXT NOT NULL, body TEXT NOT NULL, attributes TEXT NOT NULL, group_id TEXT,
        sent_ms INTEGER NOT NULL, visible_ms INTEGER NOT NULL,
        receive_count INTEGER NOT NULL DEFAULT 0, first_received_ms INTEGER, received_ms INTEGER, receipt TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS messages_by_visibility ON messages(queue, visible_ms, seq);
";

/// How many visible messages a reordering receive chooses from.
const REORDER_WINDOW: usize = 100;

/// A message to be sent.
pub(crate) struct NewMessage {
    pub(crate) message_id: String,
    pub(crate) body: String,
    /// Message attributes as the sender's JSON.
    pub(crate) attributes: String,
    pub(crate) group_id: Option<String>,
    pub(crate) delay_seconds: Option<u32>,
}

/// A message received.
pub(crate) struct Received {
    pub(crate) message_id: String,
    pub(crate) body: String,
    pub(crate) attributes: String,
    pub(crate) group_id: Option<String>,
    pub(crate) sent_ms: i64,
    pub(crate) first_received_ms: i64,
    pub(crate) receive_count: u32,
    pub(crate) receipt: Receipt,
}

/// What one receive did.
pub(crate) struct Receive {
    pub(crate) received: Vec<Received>,
    /// Messages went to the dead-letter queue instead.
    pub(crate) redriven: bool,
}

/// Which receive of which message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) seq: i64,
    pub(crate) nonce: String,
}

/// A queue as stored.
pub(crate) struct StoredQueue {
    pub(crate) settings: QueueSettings,
    pub(crate) created_ms: i64,
    pub(crate) modified_ms: i64,
}

/// Numbers of messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) visible: u64,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
}

pub(crate) struct Store {
    connection: Connection,
    dice: Dice,
}

impl Store {
    pub(crate) fn open(path: &Path, dice: Dice) -> Result<Self, rusqlite::Error> {
        let connection = Connection::open(path)?;
        // FULL: what was acknowledged is on the disk, not only in the kernel's memory.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection, dice })
    }

    fn begin(&mut self) -> Result<(Transaction<'_>, &mut Dice), rusqlite::Error> {
        Ok((self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?, &mut self.dice))
    }

    pub(crate) fn queue_names(&self, prefix: &str) -> Result<Vec<String>, SqsError> {
        let mut select = self.connection.prepare_cached("SELECT name FROM queues ORDER BY name")?;
        let names = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        Ok(names.into_iter().filter(|name| name.starts_with(prefix)).collect())
    }

    pub(crate) fn queue(&self, name: &str) -> Result<StoredQueue, SqsError> {
        find_queue(&self.connection, name)
    }

    /// Writes the queue's settings, creating the queue where there is none.
    pub(crate) fn put_queue(&mut self, name: &str, settings: &QueueSettings, now: i64) -> Result<(), SqsError> {
        let (transaction, _) = self.begin()?;
        transaction.execute(
            "INSERT INTO queues VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (name) DO UPDATE SET settings = excluded.settings, modified_ms = excluded.modified_ms",
            params![name, serde_json::to_string(settings)?, now],
        )?;
        Ok(transaction.commit()?)
    }

    pub(crate) fn delete_queue(&mut self, name: &str) -> Result<(), SqsError> {
        let (transaction, _) = self.begin()?;
        if transaction.execute("DELETE FROM queues WHERE name = ?1", [name])? == 0 {
            return Err(SqsError::QueueDoesNotExist);
        }
        Ok(transaction.commit()?)
    }

    pub(crate) fn purge(&mut self, queue: &str) -> Result<(), SqsError> {
        let (transaction, _) = self.begin()?;
        find_queue(&transaction, queue)?;
        transaction.execute("DELETE FROM messages WHERE queue = ?1", [queue])?;
        Ok(transaction.commit()?)
    }

    /// Sends all of the messages or none.
    pub(crate) fn send(&mut self, queue: &str, messages: &[NewMessage], now: i64) -> Result<(), SqsError> {
        let (transaction, _) = self.begin()?;
        let settings = find_queue(&transaction, queue)?.settings;
        for message in messages {
            let delay = message.delay_seconds.unwrap_or(settings.delay_seconds);
            transaction
                .prepare_cached(
                    "INSERT INTO messages (queue, message_id, body, attributes, group_id, sent_ms, visible_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    queue,
                    message.message_id,
                    message.body,
                    message.attributes,
                    message.group_id,
                    now,
                    now + i64::from(delay) * 1000,
                ])?;
        }
        Ok(transaction.commit()?)
    }

    /// Takes up to `max` visible messages, moving those received too often to the dead-letter queue.
    pub(crate) fn receive(
        &mut self,
        queue: &str,
        max: usize,
        visibility_seconds: Option<u32>,
        now: i64,
    ) -> Result<Receive, SqsError> {
        let (transaction, dice) = self.begin()?;
        let settings = find_queue(&transaction, queue)?.settings;
        expire(&transaction, queue, &settings, now)?;
        let (mut received, mut redriven) = (Vec::new(), false);
        if !dice.skip_receive() {
            let visible_ms = now + i64::from(visibility_seconds.unwrap_or(settings.visibility_seconds)) * 1000;
            let reorder = dice.reorder();
            while received.len() < max {
                let mut candidates = visible(&transaction, queue, if reorder { REORDER_WINDOW } else { max }, now)?;
                if reorder {
                    dice.shuffle(&mut candidates);
                }
                candidates.truncate(max - received.len());
                if candidates.is_empty() {
                    break;
                }
                for seq in candidates {
                    if redrive(&transaction, &settings, seq, now)? {
                        redriven = true;
                        continue;
                    }
                    received.push(take(&transaction, seq, visible_ms, now)?);
                    if dice.duplicate() {
                        duplicate(&transaction, seq, now)?;
                    }
                }
                // With a timeout of 0 the messages just taken are visible again: one pass is all.
                if visible_ms <= now {
                    break;
                }
            }
        }
        transaction.commit()?;
        Ok(Receive { received, redriven })
    }

    /// When the next message that is now delayed or in flight becomes visible.
    pub(crate) fn next_visible(&self, queue: &str, now: i64) -> Result<Option<i64>, SqsError> {
        Ok(self
            .connection
            .prepare_cached("SELECT min(visible_ms) FROM messages WHERE queue = ?1 AND visible_ms > ?2")?
            .query_row(params![queue, now], |row| row.get(0))?)
    }

    /// Deletes the message if the receipt is the newest; an older one is acknowledged and changes nothing, as on AWS.
    pub(crate) fn delete(&mut self, queue: &str, receipt: &Receipt) -> Result<(), SqsError> {
        let (transaction, dice) = self.begin()?;
        find_queue(&transaction, queue)?;
        if dice.drop_delete() {
            return Ok(());
        }
        transaction
            .prepare_cached("DELETE FROM messages WHERE seq = ?1 AND receipt = ?2 AND queue = ?3")?
            .execute(params![receipt.seq, receipt.nonce, queue])?;
        Ok(transaction.commit()?)
    }

    /// Makes an in-flight message visible `seconds` from now. The receipt must be the newest.
    pub(crate) fn change_visibility(
        &mut self,
        queue: &str,
        receipt: &Receipt,
        seconds: u32,
        now: i64,
    ) -> Result<(), SqsError> {
        let (transaction, _) = self.begin()?;
        find_queue(&transaction, queue)?;
        let current: Option<(i64, i64)> = transaction
            .query_row(
                "SELECT visible_ms, received_ms FROM messages WHERE seq = ?1 AND receipt = ?2 AND queue = ?3",
                params![receipt.seq, receipt.nonce, queue],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((visible_ms, received_ms)) = current else { return Err(SqsError::MessageGone) };
        if visible_ms <= now {
            return Err(SqsError::MessageNotInflight);
        }
        let visible_ms = now + i64::from(seconds) * 1000;
        if visible_ms > received_ms + i64::from(MAX_VISIBILITY_SECONDS) * 1000 {
            return Err(SqsError::InvalidParameterValue(format!(
                "Total VisibilityTimeout for the message is beyond the limit [{MAX_VISIBILITY_SECONDS} seconds]"
            )));
        }
        transaction.execute("UPDATE messages SET visible_ms = ?2 WHERE seq = ?1", params![receipt.seq, visible_ms])?;
        Ok(transaction.commit()?)
    }

    /// Moves every message of a dead-letter queue: to `destination`, or back to the one queue that feeds it.
    pub(crate) fn move_all(&mut self, source: &str, destination: Option<&str>, now: i64) -> Result<u64, SqsError> {
        let (transaction, _) = self.begin()?;
        find_queue(&transaction, source)?;
        let feeders = queues_feeding(&transaction, source)?;
        let destination = match (destination, feeders.as_slice()) {
            (_, []) => return Err(SqsError::ResourceNotFound("The source queue is not a dead-letter queue.")),
            (Some(destination), _) => destination.to_owned(),
            (None, [only]) => only.clone(),
            (None, _) => return Err(SqsError::MissingParameter("DestinationArn")),
        };
        find_queue(&transaction, &destination)?;
        let moved = transaction.execute(
            "UPDATE messages SET queue = ?2, visible_ms = ?3, receive_count = 0, first_received_ms = NULL,
             received_ms = NULL, receipt = NULL WHERE queue = ?1",
            params![source, destination, now],
        )?;
        transaction.commit()?;
        Ok(moved as u64)
    }

    pub(crate) fn depth(&self, queue: &str, now: i64) -> Result<Depth, SqsError> {
        let mut select = self.connection.prepare_cached(
            "SELECT count(*) FILTER (WHERE visible_ms <= ?2),
                    count(*) FILTER (WHERE visible_ms > ?2 AND receipt IS NOT NULL),
                    count(*) FILTER (WHERE visible_ms > ?2 AND receipt IS NULL)
             FROM messages WHERE queue = ?1",
        )?;
        Ok(select.query_row(params![queue, now], |row| {
            Ok(Depth { visible: row.get(0)?, in_flight: row.get(1)?, delayed: row.get(2)? })
        })?)
    }

    /// Deletes what is older than its queue's retention.
    pub(crate) fn expire_all(&mut self, now: i64) -> Result<u64, SqsError> {
        let names = self.queue_names("")?;
        let (transaction, _) = self.begin()?;
        let mut expired = 0;
        for name in names {
            let settings = find_queue(&transaction, &name)?.settings;
            expired += expire(&transaction, &name, &settings, now)?;
        }
        transaction.commit()?;
        Ok(expired as u64)
    }
}

fn find_queue(connection: &Connection, name: &str) -> Result<StoredQueue, SqsError> {
    let found: Option<(String, i64, i64)> = connection
        .prepare_cached("SELECT settings, created_ms, modified_ms FROM queues WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (settings, created_ms, modified_ms) = found.ok_or(SqsError::QueueDoesNotExist)?;
    Ok(StoredQueue { settings: serde_json::from_str(&settings)?, created_ms, modified_ms })
}

fn queues_feeding(connection: &Connection, dead_letter_queue: &str) -> Result<Vec<String>, SqsError> {
    let mut select = connection
        .prepare_cached("SELECT name FROM queues WHERE json_extract(settings, '$.redrive.to') = ?1 ORDER BY name")?;
    let names = select.query_map([dead_letter_queue], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    Ok(names)
}

fn expire(connection: &Connection, queue: &str, settings: &QueueSettings, now: i64) -> Result<usize, SqsError> {
    let oldest_kept = now - i64::from(settings.retention_seconds) * 1000;
    Ok(connection
        .prepare_cached("DELETE FROM messages WHERE queue = ?1 AND sent_ms < ?2")?
        .execute(params![queue, oldest_kept])?)
}

fn visible(connection: &Connection, queue: &str, limit: usize, now: i64) -> Result<Vec<i64>, SqsError> {
    let mut select = connection.prepare_cached(
        "SELECT seq FROM messages WHERE queue = ?1 AND visible_ms <= ?2 ORDER BY visible_ms, seq LIMIT ?3",
    )?;
    let rows = select.query_map(params![queue, now, limit as i64], |row| row.get(0))?;
    Ok(rows.collect::<Result<Vec<i64>, _>>()?)
}

/// Moves the message to the dead-letter queue if it was received too often. Its age goes on counting there.
fn redrive(connection: &Connection, settings: &QueueSettings, seq: i64, now: i64) -> Result<bool, SqsError> {
    let Some(redrive) = &settings.redrive else { return Ok(false) };
    let moved = connection
        .prepare_cached(
            "UPDATE messages SET queue = ?2, visible_ms = ?4, receive_count = 0, first_received_ms = NULL,
             received_ms = NULL, receipt = NULL
             WHERE seq = ?1 AND receive_count >= ?3 AND EXISTS (SELECT 1 FROM queues WHERE name = ?2)",
        )?
        .execute(params![seq, redrive.to, redrive.max_receive_count, now])?;
    Ok(moved > 0)
}

fn take(connection: &Connection, seq: i64, visible_ms: i64, now: i64) -> Result<Received, SqsError> {
    let nonce = crate::random_hex();
    let mut update = connection.prepare_cached(
        "UPDATE messages SET receive_count = receive_count + 1, receipt = ?2, visible_ms = ?3, received_ms = ?4,
         first_received_ms = coalesce(first_received_ms, ?4) WHERE seq = ?1
         RETURNING message_id, body, attributes, group_id, sent_ms, first_received_ms, receive_count",
    )?;
    Ok(update.query_row(params![seq, nonce, visible_ms, now], |row| {
        Ok(Received {
            message_id: row.get(0)?,
            body: row.get(1)?,
            attributes: row.get(2)?,
            group_id: row.get(3)?,
            sent_ms: row.get(4)?,
            first_received_ms: row.get(5)?,
            receive_count: row.get(6)?,
            receipt: Receipt { seq, nonce: nonce.clone() },
        })
    })?)
}

/// A second copy of a message just taken, as another of the real service's hosts would still have it.
/// Visible one millisecond on: the same receive must not take both.
fn duplicate(connection: &Connection, seq: i64, now: i64) -> Result<(), SqsError> {
    connection.execute(
        "INSERT INTO messages (queue, message_id, body, attributes, group_id, sent_ms, visible_ms, receive_count,
                               first_received_ms)
         SELECT queue, message_id, body, attributes, group_id, sent_ms, ?2, receive_count, first_received_ms
         FROM messages WHERE seq = ?1",
        params![seq, now + 1],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
