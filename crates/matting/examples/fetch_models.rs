//! Fetches models into a directory: `fetch_models DIR [NAME…]`. The command line proper is `rotoless models fetch`.

use std::path::PathBuf;
use std::process::ExitCode;

use rotoless_matting::fetch::{Clients, Selection, fetch};
use rotoless_matting::registry::Registry;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: fetch_models DIR [NAME…]");
        return ExitCode::FAILURE;
    };
    let names: Vec<_> = arguments.collect();
    let selection = if names.is_empty() { Selection::DefaultSet } else { Selection::Named(&names) };
    let registry = match Registry::load(&dir) {
        Ok(registry) => registry,
        Err(error) => return failed(&error),
    };
    match fetch(&registry, selection, &dir, &Clients::default(), &mut |event| eprintln!("{event:?}")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    let chain = std::iter::successors(Some(error), |error| error.source());
    eprintln!("{}", chain.map(ToString::to_string).collect::<Vec<_>>().join(": "));
    ExitCode::FAILURE
}
