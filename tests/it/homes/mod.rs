//! The worker's homes beside the template: its image, Jobs of KEDA, a unit of systemd.
//!
//! Owns: the rules that no linter knows, because they join those files to what the worker reads and to the time it needs.
//! Each is a function from a file's text to what is wrong with it, and beside each stand texts that break it. Does not own:
//! syntax and schemas (`scripts/lint-deployment`), that the image is built and runs (`scripts/try-container`).

mod container;
mod kubernetes;
mod systemd;

use std::collections::BTreeMap;

use crate::architecture::root;

/// What is wrong, one line each.
type Problems = Vec<String>;
/// A rule over a file's text, and damage to that text that the rule must find: what is replaced, and by what.
type Rule = (&'static str, fn(&str) -> Problems, &'static [(&'static str, &'static str)]);

/// From SIGTERM to the end, at the latest: 30 s for an attempt that is nearly done, 5 s to give one back, and a call of
/// 10 s that is under way (`gpu-handler/src/timing.rs`).
const SECONDS_TO_END: u64 = 45;
/// The longest attempt (`Policy::attempt_deadline`), in seconds.
const LONGEST_ATTEMPT: u64 = 7200;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// Holds a file to rules, and the rules to the damage that they must find.
fn hold(path: &str, rules: &[Rule]) {
    let text = read(path);
    for (promise, rule, damage) in rules {
        let problems = rule(&text);
        assert!(problems.is_empty(), "{path}: {promise}:\n{}", problems.join("\n"));
        assert!(!damage.is_empty(), "{promise}: nobody has seen it fail");
        for (sound, broken) in *damage {
            assert!(text.contains(sound), "{path}: {promise}: nothing to damage: {sound}");
            assert!(!rule(&text.replace(sound, broken)).is_empty(), "{path}: {promise}: not found: {broken}");
        }
    }
}

/// What of an environment the worker would not read.
fn unread<'a>(given: impl Iterator<Item = &'a str>) -> Problems {
    let worker = rotoless_gpu_handler::KEYS.iter().chain(rotoless_gpu_handler::SESSION_KEYS);
    let known: Vec<_> = worker.map(|key| key.name).collect();
    given.filter(|name| !known.contains(name)).map(|name| format!("{name}: the worker reads no such key")).collect()
}

/// What of an environment is the image's, and what is asked of `given` beside: the same name has the same value.
fn must_be(given: &BTreeMap<String, String>, name: &str, value: &str) -> Problems {
    match given.get(name) {
        Some(found) if found == value => Vec::new(),
        found => vec![format!("{name} is {found:?}, not {value}")],
    }
}

/// Version of the workspace.
fn version() -> String {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = ")).unwrap();
    line.trim_matches('"').to_owned()
}
