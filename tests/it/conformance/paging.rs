//! The list of jobs: newest first, in pages that miss nothing and repeat nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::no_worker;
use crate::world::client::Client;
use crate::world::in_a_world;
use crate::world::media::Clip;

const DRAFTS: usize = 250;

async fn page(client: &Client, query: &str) -> Value {
    let page = client.get(&format!("/v1/jobs?{query}")).await.ok();
    assert_eq!(page["items"], page["jobs"], "{query}");
    assert_eq!(page["has_more"].as_bool().unwrap(), page["next_cursor"].is_string(), "{query}");
    page
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// Every id, by the cursors of pages of `limit`.
async fn walk(client: &Client, limit: usize) -> Vec<String> {
    let (mut all, mut query) = (Vec::new(), format!("limit={limit}"));
    loop {
        let page = page(client, &query).await;
        assert_eq!((page["total"].as_u64(), page["limit"].as_u64()), (Some(DRAFTS as u64), Some(limit as u64)));
        let here = ids(&page);
        let more = page["has_more"] == true;
        assert!(here.len() == limit || !more, "a page of {} that is not the last", here.len());
        all.extend(here);
        if !more {
            return all;
        }
        query = format!("limit={limit}&cursor={}", page["next_cursor"].as_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_any_size_miss_nothing_and_repeat_nothing() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 1000.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let draft = json!({"video_url": video_url, "model": "light", "auto_start": false});
        let made: Vec<String> =
            stream::iter(0..DRAFTS).map(|_| client.order_with(draft.clone())).buffered(4).collect().await;
        let mut sorted = made.clone();
        sorted.sort_unstable();

        let all = walk(&client, 100).await;
        let mut found = all.clone();
        found.sort_unstable();
        assert_eq!(found, sorted);
        for limit in [7, 50] {
            assert_eq!(walk(&client, limit).await, all, "pages of {limit}");
        }
        for offset in [0, 1, 99, 240, 249] {
            let page = page(&client, &format!("limit=10&offset={offset}")).await;
            let end = (offset + 10).min(DRAFTS);
            assert_eq!(ids(&page), all[offset..end], "offset {offset}");
            assert_eq!((page["offset"].as_u64(), &page["has_more"]), (Some(offset as u64), &json!(end < DRAFTS)));
        }
        let beyond = page(&client, "offset=250").await;
        assert_eq!((ids(&beyond).len(), &beyond["total"], &beyond["has_more"]), (0, &json!(DRAFTS), &json!(false)));
        assert_eq!(ids(&page(&client, "").await), all[..20]);
        newest_first(&page(&client, "limit=100").await);
        filters(&client, &all).await;
    })
    .await;
}

fn newest_first(page: &Value) {
    let times: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|job| job["created_at"].as_str().unwrap()).collect();
    // RFC 3339 in UTC with the same number of digits sorts as text; where fractions differ, by length first.
    let normal = |time: &str| {
        assert!(time.ends_with('Z'), "{time}");
        let (seconds, fraction) =
            time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), ""));
        format!("{seconds}.{fraction:0<9}")
    };
    let times: Vec<String> = times.into_iter().map(normal).collect();
    assert!(times.iter().rev().is_sorted(), "{times:#?}");
}

/// Three of the drafts become something else.
async fn filters(client: &Client, all: &[String]) {
    let (started, cancelled) = (&all[17], [&all[3], &all[200]]);
    client.post(&format!("/v1/jobs/{started}/start"), &json!({})).await.ok();
    for id in cancelled {
        client.cancel(id).await.ok();
    }
    for (status, total) in [("created", 247), ("pending", 248), ("failed", 2), ("processing", 0), ("completed", 0)] {
        let page = page(client, &format!("status={status}&limit=100")).await;
        assert_eq!(page["total"], total, "{status}");
        let fits = |job: &Value| job["status"] == status || (status == "pending" && job["status"] == "created");
        assert!(page["items"].as_array().unwrap().iter().all(fits), "{status}");
    }
    let failed = page(client, "status=failed&limit=1").await;
    assert_eq!(ids(&failed), [cancelled[0].clone()]);
    let next = page(client, &format!("status=failed&limit=1&cursor={}", failed["next_cursor"].as_str().unwrap())).await;
    assert_eq!((ids(&next), &next["has_more"]), (vec![cancelled[1].clone()], &json!(false)));
    // A draft that was started keeps its place: the list is by creation.
    assert_eq!(ids(&page(client, "limit=1&offset=17").await), std::slice::from_ref(started));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_out_of_bounds_is_refused_and_names_its_parameter() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        for (query, param) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=-1", "limit"),
            ("limit=1000000000", "limit"),
            ("limit=1e9", "limit"),
            ("limit=99999999999999999999", "limit"),
            ("limit=abc", "limit"),
            ("limit=1.5", "limit"),
            ("offset=-1", "offset"),
            ("offset=abc", "offset"),
            ("offset=99999999999999999999", "offset"),
            ("offset=10001", "offset"),
            ("status=unknown", "status"),
            ("status=Completed", "status"),
            ("cursor=abc", "cursor"),
            ("cursor=..%2F..%2Fetc", "cursor"),
        ] {
            let refused = client.get(&format!("/v1/jobs?{query}")).await;
            refused.is(400, "invalid_request");
            assert_eq!(refused.json["error"]["param"], param, "{query}");
        }
        for query in ["limit=5&limit=6", "limit=%ff"] {
            client.get(&format!("/v1/jobs?{query}")).await.is(400, "invalid_request");
        }
        assert_eq!(page(&client, "limit=100&unknown=1").await["total"], 0);
        assert_eq!(page(&client, "limit=&offset=").await["limit"], 20);
    })
    .await;
}
