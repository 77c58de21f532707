//! Holds docs/GUARANTEES.md and the tests of the workspace together. Tests carry ids in their doc lines; the page has
//! one row an id.
//!
//! Owns: what counts as a test, an id and a row. Does not own: what is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::architecture::{root, sources};

const PAGE: &str = "docs/GUARANTEES.md";
/// Macros whose bodies list functions that become tests.
const LISTS: [&str; 2] = ["scenarios! {", "checks!("];
/// A row without a test says why.
const UNPROVEN: &str = "unproven: ";

/// A test as the page names it, `path::name`, and the ids of its doc lines.
type Tests = BTreeMap<String, BTreeSet<String>>;

struct Row {
    id: String,
    /// Everything behind the id.
    text: String,
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `G-01`, `TS-1` and their like, or a kill point: `K0`.
fn is_id(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match word.split_once('-') {
        Some(("G", number)) => number.len() == 2 && digits(number),
        Some((kind, number)) => kind.len() == 2 && kind.starts_with('T') && digits(number),
        None => word.len() == 2 && word.starts_with(['K', 'P', 'D']) && digits(&word[1..]),
    }
}

/// All ids of a text; `K3–K6` stands for four.
fn ids(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '–')) {
        let (first, last) = word.split_once('–').unwrap_or((word, word));
        match (is_id(first), is_id(last)) {
            (true, true) if first.len() == 2 && last.len() == 2 && first[..1] == last[..1] => {
                let number = |id: &str| id[1..].parse::<u8>().unwrap();
                found.extend((number(first)..=number(last)).map(|n| format!("{}{n}", &first[..1])));
            }
            (true, true) => found.extend([first.to_owned(), last.to_owned()]),
            (true, false) => drop(found.insert(first.to_owned())),
            (false, true) => drop(found.insert(last.to_owned())),
            (false, false) => {}
        }
    }
    found
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let mut line = line.trim_start();
    for word in ["pub(crate) ", "pub ", "async "] {
        line = line.strip_prefix(word).unwrap_or(line);
    }
    line.strip_prefix("fn ")?.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

fn tests_of(path: &Path, text: &str, into: &mut Tests) {
    let mut listed = BTreeSet::new();
    let (mut in_list, mut marked, mut doc) = (false, false, String::new());
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if LISTS.contains(&line) {
            in_list = true;
        } else if in_list && line.starts_with(['}', ')']) {
            in_list = false;
        } else if in_list {
            listed.insert(line.trim_end_matches(','));
        } else if let Some(words) = line.strip_prefix("///") {
            doc.push_str(words);
            doc.push('\n');
        } else if line.starts_with("#[") {
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else {
            if let Some(name) = function(line) {
                found.push((name, marked, ids(&doc)));
            }
            (marked, doc) = (false, String::new());
        }
    }
    for (name, marked, ids) in found {
        if marked || listed.contains(name) {
            into.insert(format!("{}::{name}", path.display()), ids);
        }
    }
}

fn tests() -> Tests {
    let mut tests = Tests::new();
    for (path, text) in sources() {
        tests_of(&path, &text, &mut tests);
    }
    assert!(tests.len() > 500, "the tests are not where they were: {}", tests.len());
    tests
}

fn rows(page: &str) -> Vec<Row> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    cells.filter(|(id, _)| is_id(id)).map(|(id, text)| Row { id: id.to_owned(), text: text.to_owned() }).collect()
}

/// Everything that is wrong between a page and the tests. `is_file` says whether the repository has a file.
fn faults(page: &str, tests: &Tests, is_file: impl Fn(&str) -> bool) -> Vec<String> {
    let rows = rows(page);
    let mut faults = Vec::new();
    let mut known = BTreeSet::new();
    for row in &rows {
        if !known.insert(row.id.as_str()) {
            faults.push(format!("{} has two rows", row.id));
        }
        let named: Vec<&str> = quoted(&row.text).filter(|name| name.contains(".rs::")).collect();
        for name in &named {
            if !tests.contains_key(*name) {
                faults.push(format!("{}: there is no test {name}", row.id));
            }
        }
        for name in quoted(&row.text).filter(|name| name.contains('/') && !name.contains("::")) {
            if !is_file(name) {
                faults.push(format!("{}: there is no file {name}", row.id));
            }
        }
        let carriers: Vec<&String> =
            tests.iter().filter(|(_, ids)| ids.contains(&row.id)).map(|(name, _)| name).collect();
        let reason = row.text.split_once(UNPROVEN).map(|(_, reason)| reason.trim_end_matches([' ', '|']));
        match reason {
            Some("") => faults.push(format!("{} is unproven for no reason", row.id)),
            None if named.is_empty() => faults.push(format!("{} names no test and is not called unproven", row.id)),
            Some(_) | None => {}
        }
        if named.is_empty() && !carriers.is_empty() {
            faults.push(format!("{} has tests that its row does not name: {carriers:?}", row.id));
        }
    }
    for (name, ids) in tests {
        let unknown = ids.iter().filter(|id| !known.contains(id.as_str()));
        faults.extend(unknown.map(|id| format!("{name} carries {id}, which {PAGE} does not know")));
    }
    let expected = (1..=42).map(|n| format!("G-{n:02}"));
    let expected = expected.chain(
        [("TS", 13), ("TW", 20), ("TR", 11), ("TD", 13), ("TF", 5)]
            .iter()
            .flat_map(|(kind, last)| (1..=*last).map(move |n| format!("{kind}-{n}"))),
    );
    let expected = expected.chain(
        [("K", 8), ("P", 3), ("D", 2)].iter().flat_map(|(kind, last)| (0..=*last).map(move |n| format!("{kind}{n}"))),
    );
    faults.extend(expected.filter(|id| !known.contains(id.as_str())).map(|id| format!("{id} has no row")));
    faults
}

#[test]
fn every_guarantee_has_a_test_that_exists_or_is_called_unproven_with_a_reason() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let faults = faults(&page, &tests(), |name| root().join(name).is_file());
    assert!(faults.is_empty(), "{PAGE} and the tests disagree:\n{}", faults.join("\n"));
}

/// The check can fail, in each way that it should.
#[test]
fn a_page_and_tests_that_disagree_would_be_found() {
    let source = "/// G-01, K1–K3.\n#[test]\nfn a_promise() {}\n\n/// G-02\nfn no_test() {}\n\n\
                  scenarios! {\n    listed,\n}\n/// TX-9\nasync fn listed(world: World) {}\n";
    let mut tests = Tests::new();
    tests_of(Path::new("a/b.rs"), source, &mut tests);
    let carried = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    let both = [("a/b.rs::a_promise", &["G-01", "K1", "K2", "K3"][..]), ("a/b.rs::listed", &["TX-9"][..])];
    assert_eq!(tests, both.map(|(name, ids)| (name.to_owned(), carried(ids))).into());

    let said = |row: &str| {
        let all = faults(row, &tests, |name| name == "a/b.rs");
        all.into_iter().filter(|fault| !fault.ends_with("has no row")).collect::<Vec<_>>().join("\n")
    };
    assert!(!said("| G-01 | x | `a/b.rs` | `a/b.rs::a_promise` |").contains("G-01: "));
    assert!(said("| G-01 | x | `a/c.rs` | `a/b.rs::a_promise` |").contains("there is no file a/c.rs"));
    assert!(said("| G-01 | x | y | `a/b.rs::no_test` |").contains("there is no test a/b.rs::no_test"));
    assert!(said("| G-01 | x | y | z |").contains("G-01 names no test"));
    assert!(said("| G-01 | x | y | unproven: later |").contains("G-01 has tests that its row does not name"));
    assert!(said("| G-02 | x | y | unproven:  |").contains("G-02 is unproven for no reason"));
    assert!(said("").contains("a/b.rs::listed carries TX-9"));
    let empty = faults("", &Tests::new(), |_| true);
    assert!(["G-42", "TW-20", "D2"].iter().all(|id| empty.contains(&format!("{id} has no row"))), "{empty:?}");
}
