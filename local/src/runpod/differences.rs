//! What differs between what is wanted and what RunPod says it has.
//!
//! Pure. Values are compared leniently, because RunPod's answers are: numbers as numbers, lists also by commas, what is
//! empty like what is absent. Fields that an answer does not name cannot be compared; FlashBoot is such a one.

use std::collections::BTreeMap;
use std::fmt;

use rotoless_aws::runpod::Fields;
use serde::Serialize;
use serde_json::Value;

/// A field that is not as wanted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// `template` or `endpoint`.
    pub(crate) of: &'static str,
    /// Its name; `env.NAME` for a variable of the worker's environment.
    pub(crate) field: String,
    /// What it is; a variable's value is never told.
    pub(crate) is: Value,
    /// What it should be.
    pub(crate) wanted: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}, wanted {}", self.of, self.field, self.is, self.wanted)
    }
}

/// Fields of one object that differ. Those that the answer does not name are left out.
pub(crate) fn between(of: &'static str, wanted: &Fields, is: &Fields) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (field, wanted) in wanted {
        let Some(is) = is.get(field) else { continue };
        let is_same = if field == "name" { same_name(wanted, is) } else { same(wanted, is) };
        if !is_same {
            differences.push(Difference { of, field: field.clone(), is: is.clone(), wanted: wanted.clone() });
        }
    }
    differences
}

/// Everything of an object that is not there yet.
pub(crate) fn all(of: &'static str, wanted: &Fields) -> Vec<Difference> {
    let as_new = |(field, wanted): (&String, &Value)| Difference {
        of,
        field: field.clone(),
        is: Value::Null,
        wanted: wanted.clone(),
    };
    wanted.iter().map(as_new).collect()
}

/// Variables that are missing, differ or are not wanted. Only names are told.
pub(crate) fn of_environment(wanted: &BTreeMap<String, String>, is: Option<&Fields>) -> Vec<Difference> {
    let named = |name: &str, is: &str, wanted: &str| Difference {
        of: "template",
        field: format!("env.{name}"),
        is: is.into(),
        wanted: wanted.into(),
    };
    let empty = Fields::new();
    let is = is.unwrap_or(&empty);
    let mut differences = Vec::new();
    for (name, wanted) in wanted {
        match is.get(name).and_then(Value::as_str) {
            None => differences.push(named(name, "absent", "given")),
            Some(is) if is != wanted => differences.push(named(name, "another value", "given")),
            Some(_) => {}
        }
    }
    let unwanted = is.keys().filter(|name| !wanted.contains_key(*name));
    differences.extend(unwanted.map(|name| named(name, "given", "absent")));
    differences
}

/// RunPod once ended the names of endpoints with FlashBoot in ` -fb`.
pub(crate) fn same_name(wanted: &Value, is: &Value) -> bool {
    let base = |value: &Value| value.as_str().map(|name| name.trim_end_matches("-fb").trim_end().to_owned());
    base(wanted) == base(is)
}

fn same(wanted: &Value, is: &Value) -> bool {
    if is_empty(wanted) && is_empty(is) {
        return true;
    }
    match (wanted, is) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Number(a), Value::String(b)) => a.as_f64() == b.trim().parse().ok(),
        (Value::Array(a), Value::Array(b)) => a == b,
        (Value::Array(a), Value::String(b)) => {
            a.iter().filter_map(Value::as_str).eq(b.split(',').map(str::trim).filter(|part| !part.is_empty()))
        }
        _ => wanted == is,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Fields {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_means_the_same_is_no_difference() {
        let wanted = object(json!({
            "name": "rotoless", "workersMin": 0, "idleTimeout": 10, "gpuTypeIds": ["a", "b"], "ports": [],
            "dockerStartCmd": [], "flashboot": true,
        }));
        let is = object(json!({
            "name": "rotoless -fb", "workersMin": 0.0, "idleTimeout": "10", "gpuTypeIds": "a, b", "ports": null,
            "dockerStartCmd": "", "unheardOf": 1,
        }));
        assert_eq!(between("endpoint", &wanted, &is), []);
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let wanted =
            object(json!({ "workersMin": 0, "gpuTypeIds": ["a", "b"], "flashboot": true, "name": "rotoless" }));
        let is = object(json!({ "workersMin": 1, "gpuTypeIds": ["b", "a"], "flashboot": false, "name": "other" }));
        let found = between("endpoint", &wanted, &is);
        let fields: Vec<_> = found.iter().map(|difference| difference.field.as_str()).collect();
        assert_eq!(fields, ["flashboot", "gpuTypeIds", "name", "workersMin"]);
        assert_eq!(found[3].to_string(), "endpoint workersMin: 1, wanted 0");
    }

    #[test]
    fn of_the_environment_names_are_told_and_no_values() {
        let wanted = ["A", "B", "C"].map(|name| (name.to_owned(), "secret".to_owned())).into();
        let is = object(json!({ "A": "secret", "B": "hidden", "D": "old" }));
        let found = of_environment(&wanted, Some(&is));
        let told: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                r#"template env.B: "another value", wanted "given""#,
                r#"template env.C: "absent", wanted "given""#,
                r#"template env.D: "given", wanted "absent""#,
            ]
        );
        assert!(!serde_json::to_string(&found).unwrap().contains("secret"));
    }
}
