//! Who refers to whom, and under which conditions.

use std::collections::BTreeSet;

use serde_json::Value;

/// One reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Whose it is: `Resources/ApiFunction`, `Outputs/ApiUrl`, ….
    pub(super) from: String,
    /// What it names, without an attribute.
    pub(super) to: String,
    /// The attribute, of `Fn::GetAtt` and of a dotted name.
    pub(super) attribute: Option<String>,
    /// Conditions that hold wherever this reference counts.
    pub(super) under: BTreeSet<String>,
}

/// All references of a template; conditions are references to themselves by [`conditions`].
pub(super) fn references(template: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    for part in ["Globals", "Conditions", "Rules", "Resources", "Outputs"] {
        for (id, entry) in template[part].as_object().into_iter().flatten() {
            let under = entry["Condition"].as_str().map(str::to_owned).into_iter().collect();
            let mut walk = Walk { from: format!("{part}/{id}"), found: &mut found };
            walk.value(entry, &under);
            for to in super::texts(&entry["DependsOn"]) {
                walk.add(to, None, &under);
            }
        }
    }
    found
}

/// The names of conditions that a template uses.
pub(super) fn conditions(template: &Value) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    collect(template, &mut |key, value| match (key, value) {
        ("Condition", Value::String(name)) => drop(used.insert(name.clone())),
        ("Fn::If", Value::Array(parts)) => used.extend(parts[0].as_str().map(str::to_owned)),
        _ => {}
    });
    used
}

/// Every string of a document.
pub(super) fn strings(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(list) => list.iter().for_each(|value| strings(value, each)),
        Value::Object(map) => map.values().for_each(|value| strings(value, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn collect(value: &Value, each: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| collect(value, each)),
        Value::Object(map) => {
            for (key, value) in map {
                each(key, value);
                collect(value, each);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

struct Walk<'a> {
    from: String,
    found: &'a mut Vec<Reference>,
}

impl Walk<'_> {
    fn add(&mut self, name: &str, attribute: Option<&str>, under: &BTreeSet<String>) {
        let (to, dotted) = name.split_once('.').map_or((name, None), |(to, rest)| (to, Some(rest)));
        let attribute = attribute.or(dotted).map(str::to_owned);
        self.found.push(Reference { from: self.from.clone(), to: to.to_owned(), attribute, under: under.clone() });
    }

    fn value(&mut self, value: &Value, under: &BTreeSet<String>) {
        match value {
            Value::Array(list) => list.iter().for_each(|value| self.value(value, under)),
            Value::Object(map) => {
                for (key, value) in map {
                    self.member(key, value, under);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn member(&mut self, key: &str, value: &Value, under: &BTreeSet<String>) {
        match (key, value) {
            ("Ref", Value::String(name)) => self.add(name, None, under),
            ("Fn::GetAtt", Value::Array(parts)) => {
                let part = |index: usize| parts[index].as_str().unwrap_or_default();
                self.add(part(0), Some(part(1)), under);
            }
            ("Fn::Sub", Value::String(text)) => {
                for name in substituted(text) {
                    self.add(name, None, under);
                }
            }
            ("Fn::If", Value::Array(parts)) => {
                let mut then = under.clone();
                then.extend(parts[0].as_str().map(str::to_owned));
                self.value(&parts[1], &then);
                self.value(&parts[2], under);
            }
            _ => self.value(value, under),
        }
    }
}

/// The names in `${…}`; `${!…}` is a literal.
fn substituted(text: &str) -> impl Iterator<Item = &str> {
    text.split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with('!'))
}
