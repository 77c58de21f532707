//! What the functions weigh: size, start, memory, time of a request. `make bench-lambda` runs it; PROFILE=release measures
//! what would be deployed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};

use super::deployment::{Deployment, FUNCTIONS, Options, WORKER, schedule};
use super::sandbox::Function;
use crate::architecture::root;
use crate::world::processes;

/// Starts of which the median is shown.
const STARTS: usize = 9;
/// Invocations of which the median is shown.
const CALLS: usize = 50;
/// What a function may have, in bytes, milliseconds and KiB: without the worker, which carries a media engine.
const AIMS: [(&str, f64); 3] = [("zip_bytes", 6e6), ("init_ms", 30.0), ("resident_kib", 24.0 * 1024.0)];

#[expect(clippy::disallowed_methods, reason = "make says which programs are measured, and where the figures go")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The program without symbols, as `cargo lambda` makes it: its size, and that of its zip.
fn sizes(program: &Path, dir: &Path) -> (usize, usize) {
    let stripped = dir.join("stripped");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(program).status().unwrap();
    assert!(status.success(), "strip: {status}");
    let bytes = std::fs::read(stripped).unwrap();
    let mut zip = DeflateEncoder::new(Vec::new(), Compression::default());
    zip.write_all(&bytes).unwrap();
    (bytes.len(), zip.finish().unwrap().len())
}

/// From the start of the process to its first question, in milliseconds.
async fn init(function: &Function) -> f64 {
    let began = Instant::now();
    let sandbox = function.start().await;
    sandbox.ready(Duration::from_secs(60)).await.unwrap_or_else(|why| panic!("{}: {why}", function.name));
    began.elapsed().as_secs_f64() * 1e3
}

fn event(name: &str, key: &str) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../../events/gateway-list.json")).unwrap();
    event["rawQueryString"] = json!("limit=1");
    match name {
        "ApiFunction" => event["headers"]["x-api-key"] = json!(key),
        "CallbackFunction" => event["rawPath"] = json!("/internal/v1/jobs/job_00000000000000000000000000000000/claim"),
        WORKER => return json!({"Records": []}),
        _ => return schedule(),
    }
    event
}

async fn measure(function: &Arc<Function>, key: &str, dir: &Path) -> Value {
    let (program_bytes, zip_bytes) = sizes(&function.program, dir);
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(init(function).await);
    }
    let event = event(function.name, key);
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        function.invoke(&event).await.answer();
        calls.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let resident = processes::peak_memory(function.process().await.expect("it is there"));
    json!({
        "program_bytes": program_bytes, "zip_bytes": zip_bytes, "init_ms": median(starts), "first_ms": calls[0],
        "warm_ms": median(calls), "resident_kib": resident,
    })
}

#[ignore = "a measurement: make bench-lambda"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_functions_are_small_and_start_quickly() {
    let programs = variable("ROTOLESS_FUNCTIONS").map(PathBuf::from);
    let deployment = Deployment::start_with(Options { programs, is_awake: true, ..Options::default() }).await;
    let key = deployment.client("bench", 1.0).await.key;
    let mut all = serde_json::Map::new();
    println!(
        "{:<18}{:>9}{:>9}{:>9}{:>10}{:>10}{:>13}",
        "", "MB", "zip MB", "init ms", "first ms", "warm ms", "resident MiB"
    );
    for (name, _) in FUNCTIONS {
        let found = measure(deployment.function(name), &key, deployment.scratch()).await;
        let number = |field: &str| found[field].as_f64().unwrap();
        println!(
            "{name:<18}{:>9.1}{:>9.2}{:>9.1}{:>10.1}{:>10.2}{:>13.1}",
            number("program_bytes") / 1e6,
            number("zip_bytes") / 1e6,
            number("init_ms"),
            number("first_ms"),
            number("warm_ms"),
            number("resident_kib") / 1024.0
        );
        for (field, most) in AIMS.iter().filter(|_| name != WORKER) {
            if number(field) > *most {
                println!("{name}: {field} is beyond its aim of {most}");
            }
        }
        all.insert(name.to_owned(), found);
    }
    if let Some(file) = variable("ROTOLESS_BENCH_JSON") {
        std::fs::write(root().join(file), serde_json::to_vec_pretty(&all).unwrap()).unwrap();
    }
}
