//! The workflows on GitHub: nobody else's changes run in them, and they may do no more than they must.

use serde_json::Value;

use crate::architecture::root;

/// Name, text and parsed document of each workflow.
fn workflows() -> Vec<(String, String, Value)> {
    let directory = root().join(".github/workflows");
    let files = std::fs::read_dir(&directory).unwrap_or_else(|err| panic!("{}: {err}", directory.display()));
    let mut all: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let document = serde_saphyr::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            (path.file_name().unwrap().to_string_lossy().into_owned(), text, document)
        })
        .collect();
    all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    all
}

/// A version in words behind it, for people.
fn is_pinned(line: &str) -> bool {
    let Some((_, of)) = line.split_once("uses:") else { return true };
    let Some((action, version)) = of.trim().split_once(" # v") else { return false };
    let Some((_, commit)) = action.split_once('@') else { return false };
    commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()) && !version.is_empty()
}

#[test]
fn every_action_is_pinned_to_a_commit() {
    for (name, text, _) in workflows() {
        for line in text.lines() {
            assert!(is_pinned(line), "{name}: {line}");
        }
    }
    for loose in [
        "- uses: actions/checkout@v5",
        "- uses: actions/checkout@v5 # v5",
        "uses: a/b@08c6903cd8c0fde910a37f88322edcfb5dd907a8",
    ] {
        assert!(!is_pinned(loose), "{loose}");
    }
}

#[test]
fn a_workflow_may_read_and_each_job_says_what_more_it_may() {
    let all = workflows();
    assert!(all.len() >= 2);
    for (name, _, document) in &all {
        let common = &document["permissions"];
        assert!(
            *common == serde_json::json!({}) || *common == serde_json::json!({"contents": "read"}),
            "{name}: {common}"
        );
        for (job, of) in document["jobs"].as_object().unwrap() {
            assert!(of["timeout-minutes"].as_u64().is_some_and(|minutes| minutes <= 180), "{name}: {job} may hang");
            let writes = of["permissions"].as_object().into_iter().flatten().filter(|(_, may)| *may == "write");
            let writes: Vec<&str> = writes.map(|(what, _)| what.as_str()).collect();
            // What was built elsewhere is published by a job that builds nothing.
            assert!(
                writes.is_empty() || (["container.yml", "release.yml"].contains(&name.as_str()) && job == "publish"),
                "{name}: {job} writes {writes:?}"
            );
            for step in of["steps"].as_array().unwrap() {
                let checkout = step["uses"].as_str().is_some_and(|action| action.starts_with("actions/checkout@"));
                assert!(
                    !checkout || step["with"]["persist-credentials"] == false,
                    "{name}: {job} leaves a token behind"
                );
                // What an expression says would be a command; it comes by the environment.
                let command = step["run"].as_str().unwrap_or_default();
                assert!(!command.contains("${{"), "{name}: {job}: {command}");
            }
        }
    }
}
