//! The problems of an entry, and the rules that names in it keep.

use std::str::FromStr;

use super::{InstalledFile, ModelEntry, Problem, REGISTRY_FILE};

/// Collects the problems of one entry.
pub(super) struct Findings<'a> {
    pub(super) entry: String,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Findings<'_> {
    pub(super) fn add(&mut self, field: &str, what: impl Into<String>) {
        self.problems.push(Problem { entry: self.entry.clone(), field: field.to_owned(), what: what.into() });
    }

    pub(super) fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, "is missing");
        }
        value
    }

    /// A required text of at most 200 characters that `allowed` accepts.
    pub(super) fn text(
        &mut self,
        field: &str,
        value: Option<String>,
        rule: &str,
        allowed: fn(&str) -> bool,
    ) -> Option<String> {
        let value = self.required(field, value)?;
        if value.is_empty() || value.len() > 200 || !allowed(&value) {
            self.add(field, format!("must be {rule}"));
            return None;
        }
        Some(value)
    }

    pub(super) fn name_of_tensor(&mut self, field: &str, value: Option<String>) -> Option<String> {
        self.text(field, value, "the name of a tensor", |text| !text.chars().any(char::is_control))
    }

    /// A path inside an archive: compared as it is with the archive's own paths, never joined to a directory.
    pub(super) fn member(&mut self, field: &str, value: Option<String>) -> Option<String> {
        self.text(field, value, "a path inside the archive", |text| {
            !text.chars().any(char::is_control) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
        })
    }

    pub(super) fn parsed<T: FromStr>(&mut self, field: &str, value: Option<String>) -> Option<T>
    where
        T::Err: ToString,
    {
        let value = self.required(field, value)?;
        value.parse().map_err(|error: T::Err| self.add(field, error.to_string())).ok()
    }

    pub(super) fn one_of<T: Copy>(&mut self, field: &str, value: Option<&str>, words: &[(&str, T)]) -> Option<T> {
        let value = self.required(field, value)?;
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.add(field, format!("must be one of: {}", words.join(", ")));
        }
        found
    }

    pub(super) fn file(&mut self, name: Option<String>, sha256: Option<String>) -> Option<InstalledFile> {
        let rule = "a plain file name that does not begin with a dot, and not the registry's";
        let name = self.text("file", name, rule, |name| is_plain_name(name) && name != REGISTRY_FILE);
        let sha256 = self.parsed("sha256", sha256);
        Some(InstalledFile { name: name?, sha256: sha256? })
    }
}

/// Letters, digits, `-`, `_`, `.`, the first of them no `-` or `.`: no path, no hidden file, no option of a tool.
pub(super) fn is_plain_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

pub(super) fn is_version(text: &str) -> bool {
    is_plain_name(text) && text.starts_with(|c: char| c.is_ascii_digit())
}

/// A package's name: never an address, a path or an option of the client that is asked for it.
pub(super) fn is_npm_name(text: &str) -> bool {
    match text.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| is_plain_name(scope) && is_plain_name(name)),
        None => is_plain_name(text),
    }
}

/// Entries whose graph as published is no entry.
pub(super) fn unpublished(models: &[ModelEntry]) -> impl Iterator<Item = Problem> {
    let is_there = |name: &String| models.iter().any(|entry| entry.name == *name);
    let dangling = move |entry: &&ModelEntry| entry.published.as_ref().is_some_and(|name| !is_there(name));
    models.iter().filter(dangling).map(|entry| Problem {
        entry: format!("model {}", entry.name),
        field: "published".to_owned(),
        what: "names no model".to_owned(),
    })
}
