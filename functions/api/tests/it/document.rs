//! The OpenAPI document is committed, and true of the router.

use std::collections::BTreeSet;
use std::path::Path;

use crate::documented::{DOCUMENT, OPERATIONS, followed, methods};
use crate::world::{ADMIN_TOKEN, World};

/// Where the document is committed.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
const JOB: &str = "job_00000000000000000000000000000000";

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let made = rotoless_api::openapi::text();
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
    if std::env::var("UPDATE_OPENAPI").is_ok() {
        std::fs::write(GOLDEN, &made).unwrap();
    }
    let committed = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let line = committed.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        committed == made,
        "docs/openapi.json differs, first near line {line:?}: run `make openapi`, and look at the diff"
    );
}

#[tokio::test]
async fn anybody_may_read_the_document_and_keep_it_for_a_while() {
    let world = World::start().await;
    let reply = world.get("/openapi.json").send().await;
    assert_eq!(reply.text, rotoless_api::openapi::text());
    assert_eq!(reply.json["openapi"], "3.1.0");
    assert_eq!(reply.headers["cache-control"], "public, max-age=300");
}

/// G-35
#[tokio::test]
async fn every_documented_method_is_mounted_and_every_other_one_is_a_405_that_names_them() {
    let world = World::start().await;
    for (template, documented) in methods() {
        let path = template.replace("{id}", JOB).replace("{delivery_id}", "evt_00000000000000000000000000000000");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            let reply = world.call(method.parse().unwrap(), &path).header("X-Admin-Token", ADMIN_TOKEN).send().await;
            if documented.contains(method) {
                let unknown_route = reply.status == 404 && reply.message() == "Not found";
                assert!(reply.status != 405 && !unknown_route, "{method} {template}: {}", reply.text);
                continue;
            }
            reply.is(405, "method_not_allowed");
            let allow = reply.headers["allow"].to_str().unwrap();
            let allowed: BTreeSet<&str> = allow.split(',').map(str::trim).filter(|name| *name != "HEAD").collect();
            assert_eq!(allowed, documented, "{template}");
        }
    }
}

/// `routes!` mounts a handler and documents it in one; this is why no mounted route can be missing in the document.
#[test]
fn routes_are_mounted_by_the_macro_that_documents_them() {
    fn visit(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            for way in [".route(", ".route_service(", ".nest_service(", "axum::routing"] {
                if text.contains(way) {
                    found.push(format!("{} uses {way}", path.display()));
                }
            }
        }
    }
    let mut found = Vec::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert_eq!(found, Vec::<String>::new(), "mount it by `routes!`");
}

#[test]
fn every_operation_says_what_a_reader_and_a_generator_need() {
    let mut ids = BTreeSet::new();
    for operation in OPERATIONS.iter() {
        let item = &DOCUMENT["paths"][&operation.template][operation.method.to_lowercase()];
        assert!(ids.insert(&operation.id), "{} is there twice", operation.id);
        assert!(item["summary"].as_str().is_some_and(|text| !text.is_empty()), "{}", operation.id);
        assert_eq!(item["tags"].as_array().map(Vec::len), Some(1), "{}", operation.id);
        assert!(item["responses"]["200"].is_object(), "{}", operation.id);
        // Every route of a client can be refused for its key; one that cannot is missing in the table of refusals.
        let key = operation.key.as_deref();
        assert_eq!(operation.refusals.contains(&(401, "invalid_api_key".to_owned())), key == Some("ApiKey"));
        assert_eq!(operation.refusals.contains(&(401, "invalid_admin_token".to_owned())), key == Some("AdminToken"));
        for (_, response) in item["responses"].as_object().unwrap() {
            let headers = followed(response)["headers"].as_object().unwrap();
            assert!(headers.contains_key("X-Request-Id"), "{}", operation.id);
        }
    }
    let text = DOCUMENT.to_string();
    for internal in ["crate::", "[`", "rotoless_"] {
        assert!(!text.contains(internal), "{internal} in {}", text.split(internal).next().unwrap().len());
    }
}
