//! `infra/docker/Dockerfile`: pinned, the worker's own settings, nobody's privileges.

use std::collections::{BTreeMap, BTreeSet};

use rotoless_contract::Model;

use super::{Problems, hold, must_be, read, unread};

const FILE: &str = "infra/docker/Dockerfile";
/// Set for NVIDIA's container runtime, and for `rotoless`.
const FOR_OTHERS: [&str; 3] = ["NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "ROTOLESS_MODELS"];

/// Instructions, each with its stage's number and the rest of its lines as one.
fn instructions(text: &str) -> Vec<(usize, String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#') && !line.is_empty());
    let joined = lines.fold(String::new(), |all, line| match line.strip_suffix('\\') {
        Some(more) => all + more + " ",
        None => all + line + "\n",
    });
    let mut stage = 0;
    let mut found = Vec::new();
    for line in joined.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        stage += usize::from(name == "FROM");
        found.push((stage, name.to_owned(), rest.trim().to_owned()));
    }
    found
}

/// Values of `ARG` before the first stage.
fn arguments(text: &str) -> BTreeMap<String, String> {
    let all = instructions(text).into_iter().filter(|(stage, name, _)| *stage == 0 && name == "ARG");
    all.filter_map(|(_, _, rest)| rest.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// The last stage's instructions of a name.
fn of_the_image(text: &str, wanted: &str) -> Vec<String> {
    let all = instructions(text);
    let last = all.last().map_or(0, |(stage, ..)| *stage);
    all.into_iter().filter(|(stage, name, _)| *stage == last && name == wanted).map(|(.., rest)| rest).collect()
}

fn environment(text: &str) -> BTreeMap<String, String> {
    let all = of_the_image(text, "ENV").join(" ");
    all.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

/// Each base is an argument with a version in its tag; the compiler is the one that the workspace asks for.
fn bases(text: &str) -> Problems {
    let arguments = arguments(text);
    let mut problems = Problems::new();
    let mut stages = BTreeSet::new();
    for (_, _, rest) in instructions(text).iter().filter(|(_, name, _)| name == "FROM") {
        let mut words = rest.split(' ');
        let from = words.next().unwrap_or_default();
        let argument = from.strip_prefix("${").and_then(|from| from.strip_suffix('}'));
        let is_known = match argument {
            Some(argument) => argument.ends_with("_IMAGE") && arguments.contains_key(argument),
            None => stages.contains(from.split("${").next().unwrap_or_default()),
        };
        if !is_known {
            problems.push(format!("FROM {from}"));
        }
        if let Some(stage) = words.nth(1) {
            stages.insert(stage.to_owned());
            // A stage chosen by an argument: `libraries-${DEVICE}`.
            stages.extend(stage.rsplit_once('-').map(|(family, _)| format!("{family}-")));
        }
    }
    for (name, image) in arguments.iter().filter(|(name, _)| name.ends_with("_IMAGE")) {
        let (tagged, digest) = image.split_once('@').unwrap_or((image, ""));
        let tag = tagged.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| *tag != "latest");
        let is_digest = digest.is_empty() || digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64);
        if tag.is_none() || !is_digest {
            problems.push(format!("{name}={image}"));
        }
    }
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    if !arguments["RUST_IMAGE"].contains(&format!(":{rust}.")) {
        problems.push(format!("the workspace asks for Rust {rust}"));
    }
    problems
}

/// What is copied from the context is let through to it.
fn context(text: &str) -> Problems {
    let ignored = read(".dockerignore");
    let admitted: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let copies =
        instructions(text).into_iter().filter(|(_, name, rest)| name == "COPY" && !rest.starts_with("--from="));
    let sources = copies.flat_map(|(.., rest)| {
        let words: Vec<_> = rest.split_whitespace().map(str::to_owned).collect();
        words[..words.len() - 1].to_vec()
    });
    let is_admitted = |source: &str| {
        admitted.iter().any(|may| {
            let prefix = may.strip_suffix('*');
            source == *may || source.starts_with(&format!("{may}/")) || prefix.is_some_and(|p| source.starts_with(p))
                // Of `tests` only what makes it a package.
                || may.starts_with(&format!("{source}/"))
        })
    };
    sources.filter(|source| !is_admitted(source)).map(|source| format!("{source} is not in the context")).collect()
}

/// It runs as a numbered user, told by signals and asked for its health without a shell.
fn process(text: &str) -> Problems {
    let mut problems = Problems::new();
    let last = |name| of_the_image(text, name).pop().unwrap_or_default();
    let user = last("USER");
    if !user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id >= 1000)) {
        problems.push(format!("USER {user}"));
    }
    if last("STOPSIGNAL") != "SIGTERM" {
        problems.push("STOPSIGNAL is not SIGTERM".to_owned());
    }
    let health = last("HEALTHCHECK");
    let health = health.split_once("CMD ").map_or("", |(_, command)| command);
    for command in [&last("ENTRYPOINT"), health] {
        let words: Vec<String> = serde_json::from_str(command).unwrap_or_default();
        if !words.first().is_some_and(|program| program.ends_with("gpu-handler")) {
            problems.push(format!("a shell, or another program: {command}"));
        }
    }
    problems
}

fn settings(text: &str) -> Problems {
    let given = environment(text);
    let mut problems = unread(given.keys().map(String::as_str).filter(|name| !FOR_OTHERS.contains(name)));
    for (name, value) in [("SESSIONS", "runpod"), ("DEVICE", "${DEVICE}"), ("WORK_DIR", "/work")] {
        problems.extend(must_be(&given, name, value));
    }
    let secrets = rotoless_gpu_handler::KEYS.iter().filter(|key| key.secret);
    problems.extend(secrets.filter(|key| text.contains(key.name)).map(|key| format!("{} is a secret", key.name)));
    problems
}

/// Weights for every model that a client may ask for.
fn weights(text: &str) -> Problems {
    let all = instructions(text);
    let models = all.iter().find_map(|(_, name, rest)| if name == "ARG" { rest.strip_prefix("MODELS=") } else { None });
    let models: BTreeSet<_> = models.unwrap_or_default().trim_matches('"').split(' ').collect();
    let missing = Model::ALL.iter().map(|model| model.as_str()).filter(|model| !models.contains(model));
    missing.map(|model| format!("no weights of {model}")).collect()
}

#[test]
fn the_image_is_of_known_parts_and_runs_as_nobody_in_particular() {
    hold(
        FILE,
        &[
            (
                "each base has a version, and a digest where it has one is whole",
                bases,
                &[
                    ("debian:trixie-slim", "debian:latest"),
                    ("debian:trixie-slim", "debian"),
                    ("debian:trixie-slim", "debian:trixie-slim@sha256:0123"),
                    ("rust:1.95.0", "rust:1.94.0"),
                    ("FROM fetch AS models", "FROM docker.io/library/node:24 AS models"),
                ],
            ),
            (
                "nothing is copied that .dockerignore keeps away",
                context,
                &[("COPY local local", "COPY local docs local"), ("LICENSE-MIT", "samconfig.toml")],
            ),
            (
                "a numbered user, signals, no shell",
                process,
                &[
                    ("USER 10001:10001", "USER root"),
                    ("USER 10001:10001", "USER 0:0"),
                    ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL"),
                    (r#"ENTRYPOINT ["/usr/local/bin/gpu-handler"]"#, "ENTRYPOINT gpu-handler"),
                    (r#"CMD ["gpu-handler", "--healthy"]"#, "CMD gpu-handler --healthy"),
                ],
            ),
            (
                "settings that the worker reads, and no secret",
                settings,
                &[
                    ("WORK_DIR=/work", "WORKDIR=/work"),
                    ("SESSIONS=runpod", "SESSIONS=poll"),
                    ("DEVICE=${DEVICE}", "DEVICE=cpu"),
                    ("WORK_DIR=/work", "WORK_DIR=/work FLEET_KEY=0123456789abcdef"),
                ],
            ),
            ("weights of every model", weights, &[("light human", "human")]),
        ],
    );
}

#[test]
fn libraries_for_gpus_come_by_their_digests() {
    let list = read("infra/docker/cuda.txt");
    let wanted = read("infra/docker/cuda.in");
    let entries: Vec<_> = list.split("\nnvidia-").collect();
    for entry in &entries {
        let (_, rest) = entry.split_once("==").unwrap_or_else(|| panic!("{entry} has no version"));
        let digests = rest.matches("--hash=sha256:").count();
        assert!(digests > 0, "{entry} has no digest");
    }
    let names =
        wanted.lines().filter(|line| !line.starts_with('#')).map(|line| line.split("~=").next().unwrap_or(line));
    for name in names {
        assert!(list.contains(&format!("{name}==")), "{name} is wanted and not in the list");
    }
    // All that the engine loads for CUDA (crates/matting/src/model/session/gpu.rs) is in one of them.
    assert_eq!(entries.len(), wanted.lines().filter(|line| !line.starts_with('#')).count());
}
