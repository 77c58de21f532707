//! The OpenAPI document: that it is committed, that it is true of the router.

use std::path::Path;

use crate::world::World;

/// Where the document is committed.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let made = rotoless_api::openapi::text();
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(GOLDEN, &made).unwrap();
    }
    let committed = std::fs::read_to_string(Path::new(GOLDEN)).unwrap_or_default();
    let differs = committed.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        committed == made,
        "docs/openapi.json differs (first in line {differs:?}): run `make openapi` and look at the diff"
    );
}

#[tokio::test]
async fn anybody_may_read_the_document_and_keep_it_for_a_while() {
    let world = World::start().await;
    let reply = world.get("/openapi.json").send().await;
    assert_eq!(reply.text, rotoless_api::openapi::text());
    assert_eq!(reply.json["openapi"], "3.1.0");
}
