//! What the repository promises about itself: which crate may know which, how large a file may grow, that no event
//! shape lies around unused. The rules are docs/ARCHITECTURE.md's; a new crate must be given its place here.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every crate of the workspace, and the crates of the workspace it may depend on.
const MAY_KNOW: [(&str, &[&str]); 17] = [
    ("rotoless-contract", &[]),
    ("rotoless-core", &["rotoless-contract"]),
    ("rotoless-egress", &["rotoless-contract"]),
    ("rotoless-matting", &["rotoless-contract"]),
    ("rotoless-embedded", &["rotoless-contract"]),
    ("rotoless-gateway", &["rotoless-contract"]),
    ("rotoless-aws", &["rotoless-contract", "rotoless-core"]),
    ("rotoless-telemetry", &["rotoless-contract", "rotoless-core"]),
    ("rotoless-simulate", &["rotoless-contract", "rotoless-core"]),
    ("rotoless-gpu-handler", &["rotoless-contract", "rotoless-egress", "rotoless-matting"]),
    ("rotoless-worker-function", &["rotoless-gpu-handler"]),
    // Egress judges URLs for it and opens none: without its client.
    (
        "rotoless-api",
        &[
            "rotoless-contract",
            "rotoless-core",
            "rotoless-aws",
            "rotoless-egress",
            "rotoless-gateway",
            "rotoless-telemetry",
        ],
    ),
    (
        "rotoless-callback",
        &["rotoless-contract", "rotoless-core", "rotoless-aws", "rotoless-gateway", "rotoless-telemetry"],
    ),
    ("rotoless-sweep", CONTROL_PLANE),
    (
        "rotoless-deliver",
        &["rotoless-contract", "rotoless-core", "rotoless-aws", "rotoless-egress", "rotoless-telemetry"],
    ),
    (
        "rotoless",
        &[
            "rotoless-contract",
            "rotoless-core",
            "rotoless-aws",
            "rotoless-egress",
            "rotoless-embedded",
            "rotoless-matting",
            "rotoless-simulate",
            "rotoless-gpu-handler",
            "rotoless-api",
            "rotoless-callback",
            "rotoless-deliver",
            "rotoless-sweep",
        ],
    ),
    ("rotoless-tests", &[]),
];

const CONTROL_PLANE: &[&str] = &["rotoless-contract", "rotoless-core", "rotoless-aws", "rotoless-telemetry"];

/// Crates of the outside, by the beginning of their names, that must not be reached by any way.
const MUST_NOT_REACH: [(&str, &[&str]); 11] = [
    ("rotoless-contract", IO),
    ("rotoless-core", IO),
    ("rotoless-telemetry", IO),
    ("rotoless-simulate", IO),
    ("rotoless-matting", &["aws-", "axum", "reqwest", "hyper"]),
    ("rotoless-egress", &["aws-", "axum", "lambda_"]),
    // The worker reaches one queue; all else comes to it as presigned links.
    ("rotoless-gpu-handler", &["aws-sdk-dynamodb", "aws-sdk-s3", "axum", "lambda_"]),
    ("rotoless-api", MEDIA),
    ("rotoless-callback", MEDIA),
    ("rotoless-deliver", MEDIA),
    ("rotoless-sweep", MEDIA),
];

const IO: &[&str] = &["aws-", "axum", "hyper", "lambda_", "mio", "reqwest", "rusqlite", "rustls", "tokio"];
const MEDIA: &[&str] = &["ffmpeg", "ndarray", "ort"];

/// Who may have an HTTP client of its own. Whatever opens a URL given by a user goes through egress.
const MAY_HOLD_REQWEST: [&str; 3] = ["rotoless", "rotoless-egress", "rotoless-gpu-handler"];

/// Where sources are.
const ROOTS: [&str; 5] = ["crates", "functions", "gpu-handler", "local", "tests"];
const HARD_LIMIT: usize = 500;
const SOFT_LIMIT: usize = 400;
const SAYS_NOTHING: [&str; 8] = ["common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"];

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Normal dependencies (not those of tests and build scripts), by name, on the platform that we deploy to.
struct Graph {
    members: BTreeSet<String>,
    direct: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn load() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let normal = |dep: &&Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let deps = list(&node["deps"]);
            let deps = deps.iter().filter(normal).map(|dep| names[&text(&dep["pkg"])].clone());
            // Several versions of one crate count as one.
            direct.entry(names[&text(&node["id"])].clone()).or_default().extend(deps);
        }
        let members = list(&metadata["workspace_members"]).iter().map(|id| names[&text(id)].clone()).collect();
        Self { members, direct }
    }

    /// A shortest way from one crate to one whose name begins so.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut seen = BTreeSet::from([from.to_owned()]);
        let mut ways = vec![vec![from.to_owned()]];
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                for next in self.direct.get(&way[way.len() - 1]).into_iter().flatten() {
                    let way = [&way[..], std::slice::from_ref(next)].concat();
                    if next.starts_with(to) {
                        return Some(way);
                    }
                    if seen.insert(next.clone()) {
                        longer.push(way);
                    }
                }
            }
            ways = longer;
        }
        None
    }
}

#[test]
fn dependencies_point_one_way() {
    let graph = Graph::load();
    let placed: BTreeSet<String> = MAY_KNOW.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(graph.members, placed, "every crate of the workspace has its place");
    for (name, may_know) in MAY_KNOW {
        let known: Vec<_> = graph.direct[name].intersection(&graph.members).collect();
        let wrong: Vec<_> = known.into_iter().filter(|known| !may_know.contains(&known.as_str())).collect();
        assert!(wrong.is_empty(), "{name} must not depend on {wrong:?}");
    }
    for (name, banned) in MUST_NOT_REACH {
        for outsider in banned {
            let way = graph.way(name, outsider);
            assert!(way.is_none(), "{name} must not reach {outsider}: {}", way.unwrap().join(" -> "));
        }
    }
    for name in &graph.members {
        let holds = graph.direct[name].contains("reqwest");
        assert!(!holds || MAY_HOLD_REQWEST.contains(&name.as_str()), "{name} must not have an HTTP client of its own");
    }
}

/// The check can fail: the graph is really walked, through crates that are not ours.
#[test]
fn a_forbidden_way_would_be_found() {
    let graph = Graph::load();
    let way = graph.way("rotoless-api", "tokio").unwrap();
    assert_eq!((way[0].as_str(), way[way.len() - 1].as_str()), ("rotoless-api", "tokio"));
    let way = graph.way("rotoless", "mio").unwrap();
    assert!(way.len() > 2, "{way:?}");
    assert_eq!(graph.way("rotoless-contract", "rotoless"), None);
}

/// All files below a directory of the repository, in order; none where it does not exist.
fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![below.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(super) fn sources() -> Vec<(PathBuf, String)> {
    let all = ROOTS.iter().flat_map(|below| files(&root().join(below)));
    let rust = all.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.strip_prefix(root()).unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn files_stay_readable_in_one_sitting() {
    let mut too_long = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > HARD_LIMIT {
            too_long.push(format!("{}: {lines} lines", path.display()));
        } else if lines > SOFT_LIMIT {
            eprintln!("{} has grown to {lines} lines", path.display());
        }
    }
    assert!(too_long.is_empty(), "more than {HARD_LIMIT} lines: {too_long:#?}");
}

#[test]
fn a_module_says_what_it_does() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources are not where they were: {} files", sources.len());
    for (path, text) in sources {
        for part in path.iter() {
            let name = Path::new(part).file_stem().unwrap().to_string_lossy().into_owned();
            assert!(!SAYS_NOTHING.contains(&name.as_str()), "{}: `{name}` says nothing", path.display());
        }
        for line in text.lines().map(str::trim_start) {
            let declared = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ");
            let name = declared.map(|rest| rest.trim_end_matches([';', '{', ' ']));
            assert!(!name.is_some_and(|name| SAYS_NOTHING.contains(&name)), "{}: {line}", path.display());
        }
    }
}

/// A shape that no test reads is a shape that nobody keeps true.
#[test]
fn every_event_shape_is_read_by_a_test() {
    let sources = sources();
    for event in files(&root().join("events")) {
        let path = event.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let is_read = sources.iter().any(|(_, text)| text.contains(&path));
        assert!(is_read || path.ends_with(".md"), "no test reads {path}");
    }
}
