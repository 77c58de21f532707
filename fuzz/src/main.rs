//! One program for all parsers: the directory of seeds on its command line says which one (`make fuzz`).
#![no_main]

use std::io::Cursor;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rotoless_core::header::{read_header, sniff};
use rotoless_matting::fuzzing::TARGETS;

/// The parsers whose name is a directory on the command line.
fn wanted() -> &'static [fn(&[u8])] {
    static WANTED: OnceLock<Vec<fn(&[u8])>> = OnceLock::new();
    WANTED.get_or_init(|| {
        let named: Vec<String> = std::env::args().collect();
        let is_named = |name: &str| named.iter().any(|argument| argument.ends_with(&format!("/{name}")));
        let mut wanted: Vec<fn(&[u8])> = TARGETS.iter().filter(|(name, _)| is_named(name)).map(|(_, run)| *run).collect();
        if is_named("container") {
            wanted.push(early_probe);
        }
        assert!(!wanted.is_empty(), "no parser is named like one of these directories");
        wanted
    })
}

/// The API's look at an upload's first bytes.
fn early_probe(bytes: &[u8]) {
    let _ = sniff(bytes);
    let _ = read_header(Cursor::new(bytes), bytes.len() as u64);
}

fuzz_target!(|bytes: &[u8]| {
    for run in wanted() {
        run(bytes);
    }
});
