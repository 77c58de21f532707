//! `infra/systemd/rotoless-worker@.service`: it starts again, has the time to end, and knows what it is told.

use std::collections::BTreeMap;

use super::{Problems, SECONDS_TO_END, hold, must_be, unread};

const FILE: &str = "infra/systemd/rotoless-worker@.service";

/// All settings of a name, in their order.
fn all<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .collect()
}

fn life(text: &str) -> Problems {
    let wanted = [
        ("Restart", "always"),
        ("KillSignal", "SIGTERM"),
        // The worker ends its ffmpeg children itself.
        ("KillMode", "mixed"),
        ("ExecStart", "/usr/local/bin/gpu-handler"),
        ("EnvironmentFile", "/etc/rotoless/worker.env"),
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
    ];
    let mut problems: Problems = wanted
        .iter()
        .filter(|(name, value)| all(text, name) != [*value])
        .map(|(name, value)| format!("{name} is not {value}"))
        .collect();
    let stop = all(text, "TimeoutStopSec").first().and_then(|value| value.parse().ok());
    if stop.is_none_or(|seconds: u64| seconds < SECONDS_TO_END) {
        problems.push("TimeoutStopSec is too short".to_owned());
    }
    // Isolation of ffmpeg from the network (`crates/matting/src/child/confine.rs`).
    if all(text, "RestrictNamespaces") != ["user net"] {
        problems.push("ffmpeg cannot be kept from the network".to_owned());
    }
    problems
}

fn settings(text: &str) -> Problems {
    let pairs =
        all(text, "Environment").into_iter().flat_map(str::split_whitespace).filter_map(|pair| pair.split_once('='));
    let given: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut problems = unread(given.keys().map(String::as_str));
    problems.extend(must_be(&given, "SESSIONS", "poll"));
    problems.extend(must_be(&given, "DEVICE", "cuda:%i"));
    // One directory a worker.
    let cache = all(text, "CacheDirectory").first().copied().unwrap_or_default();
    problems.extend(must_be(&given, "WORK_DIR", &format!("%C/{cache}")));
    if !cache.ends_with("%i") {
        problems.push("workers share a directory".to_owned());
    }
    problems
}

#[test]
fn a_unit_starts_its_worker_again_and_lets_it_end() {
    hold(
        FILE,
        &[
            (
                "its life",
                life,
                &[
                    ("Restart=always", "Restart=no"),
                    ("TimeoutStopSec=60", "TimeoutStopSec=10"),
                    ("KillMode=mixed", "KillMode=control-group"),
                    ("RestrictNamespaces=user net", "RestrictNamespaces=yes"),
                    ("DynamicUser=yes", "User=root"),
                ],
            ),
            (
                "its settings",
                settings,
                &[
                    ("SESSIONS=poll", "SESSIONS=runpod"),
                    ("MODELS_DIR=", "MODELS="),
                    ("CacheDirectory=rotoless-worker/%i", "CacheDirectory=rotoless-worker"),
                ],
            ),
        ],
    );
}
