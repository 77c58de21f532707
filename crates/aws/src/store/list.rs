//! Some of a client's jobs, and how many there are.
//!
//! Cost: DynamoDB reads (and bills) every job that it passes over: those skipped by `offset`, those of other states,
//! and for `total` all of the client's. A client's 10 000 jobs of 2 KB are 20 MB: 2 500 read units, 0.03 cents, and
//! a second or two. Whoever pages by cursor and ignores `total` still pays for it; an `offset` costs no more.

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::Select;
use rotoless_core::ports::{JobPage, ListCursor, ListQuery, StoreError};
use rotoless_core::record::JobRecord;

use super::codec::{list_position, read_doc, s};
use super::{Item, Store};
use crate::error::{Effect, classify};
use crate::retry;

/// Jobs read at once: enough to get through a filter, few enough to stay far below a page's 1 MB.
const CHUNK: std::ops::RangeInclusive<u64> = 25..=300;
/// Pages of 1 MB that are counted for `total`, about 15 000 jobs; beyond them it is a lower bound.
const COUNTED_PAGES: u32 = 32;

impl Store {
    pub(super) async fn list_jobs(&self, query: &ListQuery) -> Result<JobPage, StoreError> {
        let limit = u64::from(query.limit);
        let mut skip = u64::from(query.offset);
        let mut items: Vec<JobRecord> = Vec::new();
        let mut more = false;
        let mut position = query.cursor.as_ref().map(|cursor| list_position(&query.client, cursor));
        'pages: loop {
            let wanted = skip + limit + 1 - items.len() as u64;
            let chunk = i32::try_from(wanted.clamp(*CHUNK.start(), *CHUNK.end())).unwrap_or(i32::MAX);
            let page = self.jobs_page(query, position.take(), |page| page.limit(chunk)).await?;
            for item in page.items() {
                if skip > 0 {
                    skip -= 1;
                } else if items.len() as u64 == limit {
                    more = true;
                    break 'pages;
                } else {
                    items.push(read_doc(item, "job")?);
                }
            }
            position = page.last_evaluated_key;
            if position.is_none() {
                break;
            }
        }
        let last = items.last().filter(|_| more);
        let next_cursor =
            last.map(|job| ListCursor { created_ms: job.created_at.as_millisecond(), job: job.id.clone() });
        let total = if query.cursor.is_none() && !more {
            // The end was reached: everything that matches was passed.
            u64::from(query.offset) - skip + items.len() as u64
        } else {
            self.count_jobs(query).await?
        };
        Ok(JobPage { items, total, next_cursor })
    }

    async fn count_jobs(&self, query: &ListQuery) -> Result<u64, StoreError> {
        let mut total = 0;
        let mut position = None;
        for _ in 0..COUNTED_PAGES {
            let page = self.jobs_page(query, position, |page| page.select(Select::Count)).await?;
            total += u64::try_from(page.count()).unwrap_or(0);
            position = page.last_evaluated_key;
            if position.is_none() {
                break;
            }
        }
        Ok(total)
    }

    async fn jobs_page(
        &self,
        query: &ListQuery,
        position: Option<Item>,
        shape: impl Fn(QueryFluentBuilder) -> QueryFluentBuilder + Sync,
    ) -> Result<QueryOutput, StoreError> {
        retry::read(|| async {
            let mut page = self
                .client
                .query()
                .table_name(&self.names.jobs)
                .index_name("by-client")
                .key_condition_expression("client_id = :client")
                .expression_attribute_values(":client", s(query.client.as_str()))
                .scan_index_forward(false)
                .set_exclusive_start_key(position.clone());
            if !query.statuses.is_empty() {
                let placeholders: Vec<String> = (0..query.statuses.len()).map(|i| format!(":s{i}")).collect();
                page = page
                    .filter_expression(format!("#status IN ({})", placeholders.join(", ")))
                    .expression_attribute_names("#status", "status");
                for (placeholder, status) in placeholders.iter().zip(&query.statuses) {
                    page = page.expression_attribute_values(placeholder, s(status.as_str()));
                }
            }
            shape(page).send().await.map_err(|e| classify(e, Effect::None))
        })
        .await
    }
}
