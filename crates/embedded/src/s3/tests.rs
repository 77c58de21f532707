use super::index::{Headers, Object, Part, Precondition, Upload};
use super::*;
use crate::template::{ExpirationRule, Resources};
use std::collections::HashSet;

const DAY: i64 = DAY_MS;

fn open(dir: &Path) -> S3Host {
    let spec = Resources::of_stack("rotoless").unwrap().buckets.remove(0);
    let credential = Credential { access_key: "KEY".into(), secret_key: "secret".to_owned().into() };
    S3Host::open(dir, spec, &credential).unwrap()
}

fn files(dir: &Path) -> HashSet<String> {
    let names = std::fs::read_dir(dir.join("blobs")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// An object of one byte, written at `modified_ms`, with its file.
async fn store(host: &S3Host, dir: &Path, key: &str, modified_ms: i64) {
    let blob = crate::random_hex();
    std::fs::write(dir.join("blobs").join(&blob), "x").unwrap();
    let object = Object {
        key: key.to_owned(),
        blob,
        size: 1,
        etag: "e".into(),
        modified_ms,
        headers: Headers::default(),
        checksums: Default::default(),
    };
    host.bucket.index.run(move |index| index.put(&object, &Precondition::None)).await.unwrap();
}

async fn keys(host: &S3Host) -> Vec<String> {
    let objects = host.bucket.index.run(|index| index.list("", "", 100)).await.unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn objects_and_unfinished_uploads_go_when_the_templates_rules_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let rules: Vec<(&str, u32)> = host.spec.expirations.iter().map(|r| (r.prefix.as_str(), r.days)).collect();
    assert_eq!(rules, [("uploads/", 1), ("outputs/", 7), ("segments/", 2)]);
    for key in ["uploads/a", "outputs/a", "elsewhere/a"] {
        store(&host, dir.path(), key, 0).await;
    }
    let upload = Upload { id: "u".into(), key: "outputs/b".into(), headers: Headers::default(), created_ms: 0 };
    let part = Part { number: 1, blob: "part".into(), size: 1, etag: "e".into(), modified_ms: 0 };
    std::fs::write(dir.path().join("blobs/part"), "x").unwrap();
    host.bucket
        .index
        .run(move |index| {
            index.create_upload(&upload)?;
            index.put_part("u", &part)
        })
        .await
        .unwrap();

    assert_eq!(host.expire(DAY).await.unwrap(), Expired::default());
    assert_eq!(host.expire(DAY + 1).await.unwrap(), Expired { objects: 1, uploads: 1 });
    assert_eq!(keys(&host).await, ["elsewhere/a", "outputs/a"]);
    assert_eq!(host.expire(7 * DAY + 1).await.unwrap(), Expired { objects: 1, uploads: 0 });
    assert_eq!(keys(&host).await, ["elsewhere/a"]);
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn an_empty_prefix_means_every_key_and_a_prefix_is_not_a_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = open(dir.path());
    for key in ["a%b", "axb", "é/1"] {
        store(&host, dir.path(), key, 0).await;
    }
    let spec = |prefix: &str| {
        let expirations = vec![ExpirationRule { prefix: prefix.into(), days: 1 }];
        Arc::new(BucketSpec { expirations, ..(*open_spec()).clone() })
    };
    host.spec = spec("a%");
    assert_eq!(host.expire(2 * DAY).await.unwrap().objects, 1);
    host.spec = spec("é/");
    assert_eq!(host.expire(2 * DAY).await.unwrap().objects, 1);
    host.spec = spec("");
    assert_eq!(host.expire(2 * DAY).await.unwrap().objects, 1);
}

fn open_spec() -> Box<BucketSpec> {
    Box::new(Resources::of_stack("rotoless").unwrap().buckets.remove(0))
}

#[tokio::test]
async fn files_a_kill_left_behind_are_gone_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    store(&host, dir.path(), "uploads/a", 0).await;
    std::fs::write(dir.path().join("blobs/half-written"), "x").unwrap();
    assert_eq!(files(dir.path()).len(), 2);
    drop(host);
    let host = open(dir.path());
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(keys(&host).await, ["uploads/a"]);
}

#[tokio::test]
async fn a_write_whose_file_is_dropped_before_its_row_leaves_neither() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path());
    let blob = host.bucket.blobs.create(Default::default()).await.unwrap();
    assert_eq!(files(dir.path()).len(), 1);
    drop(blob);
    assert!(files(dir.path()).is_empty());
    let written = host.bucket.blobs.create(Default::default()).await.unwrap().finish().await.unwrap();
    let refused = host.bucket.commit(written.blob, |_| Err(IndexError::PreconditionFailed)).await.unwrap_err();
    assert_eq!(refused.status_code(), Some(StatusCode::PRECONDITION_FAILED));
    assert!(files(dir.path()).is_empty());
}
