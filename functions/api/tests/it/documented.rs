//! The document as the tests read it: which answers are documented. Every answer that any test of this package sees is
//! held against it (`Call::send`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value;

use crate::world::Reply;

/// An operation of the document.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) id: String,
    /// Upper case.
    pub(crate) method: String,
    /// The path with its parameters in braces.
    pub(crate) template: String,
    /// `ApiKey`, `AdminToken`, or nothing.
    pub(crate) key: Option<String>,
    pub(crate) tag: String,
    pub(crate) has_body: bool,
    /// Status and code of every refusal.
    pub(crate) refusals: BTreeSet<(u16, String)>,
}

pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&rotoless_api::openapi::text()).unwrap());

pub(crate) static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let each = |(template, item): (&String, &Value)| {
        let template = template.clone();
        let item = item.as_object().unwrap().clone();
        item.into_iter().map(move |(method, operation)| read(&template, &method, &operation))
    };
    paths.iter().flat_map(each).collect()
});

fn read(template: &str, method: &str, operation: &Value) -> Operation {
    let mut refusals = BTreeSet::new();
    for (status, response) in operation["responses"].as_object().unwrap() {
        if status == "200" {
            continue;
        }
        let error = &followed(response)["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"];
        for code in error["properties"]["code"]["enum"].as_array().unwrap() {
            refusals.insert((status.parse().unwrap(), code.as_str().unwrap().to_owned()));
        }
    }
    let key = operation["security"][0].as_object().and_then(|schemes| schemes.keys().next().cloned());
    Operation {
        id: operation["operationId"].as_str().unwrap().to_owned(),
        method: method.to_uppercase(),
        template: template.to_owned(),
        key,
        tag: operation["tags"][0].as_str().unwrap().to_owned(),
        has_body: operation["requestBody"].is_object(),
        refusals,
    }
}

/// What a reference of the document stands for; anything else is itself.
pub(crate) fn followed(part: &Value) -> &Value {
    match part["$ref"].as_str() {
        Some(to) => DOCUMENT.pointer(to.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{to} leads nowhere")),
        None => part,
    }
}

/// The methods of each path.
pub(crate) fn methods() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut methods: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for operation in OPERATIONS.iter() {
        methods.entry(operation.template.as_str()).or_default().insert(operation.method.as_str());
    }
    methods
}

impl Operation {
    /// The path with these in the place of its parameters, in their order.
    pub(crate) fn path(&self, parameters: &[&str]) -> String {
        let mut parameters = parameters.iter();
        let fill = |segment: &str| match segment.starts_with('{') {
            true => parameters.next().unwrap_or_else(|| panic!("{} has more parameters", self.template)).to_string(),
            false => segment.to_owned(),
        };
        self.template.split('/').map(fill).collect::<Vec<_>>().join("/")
    }
}

/// The documented path that a request's path is an instance of.
fn template_of(path: &str) -> Option<&'static str> {
    let fits = |template: &&str| {
        let (mut here, mut there) = (path.split('/'), template.split('/'));
        loop {
            match (here.next(), there.next()) {
                (None, None) => return true,
                (Some(part), Some(wanted)) if part == wanted || (wanted.starts_with('{') && !part.is_empty()) => {}
                _ => return false,
            }
        }
    };
    methods().into_keys().find(fits)
}

/// Fails for an answer that the document does not know.
pub(crate) fn expects(method: &str, target: &str, reply: &Reply) {
    let path = target.split('?').next().unwrap();
    let answer = (reply.status.as_u16(), reply.json["error"]["code"].as_str().unwrap_or_default().to_owned());
    if method == "OPTIONS" && answer.0 == 200 {
        // A browser's preflight, on whatever path.
        return;
    }
    let Some(template) = template_of(path) else {
        assert_eq!(answer, (404, "not_found".to_owned()), "{method} {path} is not in the document");
        return;
    };
    let here = || OPERATIONS.iter().filter(|operation| operation.template == template);
    let Some(operation) = here().find(|operation| operation.method == method) else {
        // Not mounted by this host.
        let is_absent = here().any(|operation| operation.tag == "Admin" || operation.tag == "Legacy");
        assert!(
            answer.0 == 405 || (is_absent && answer == (404, "not_found".to_owned())),
            "{method} {template} is not in the document: {answer:?}"
        );
        return;
    };
    assert!(
        answer.0 == 200 || operation.refusals.contains(&answer),
        "{} ({method} {template}) does not document {answer:?}: {}",
        operation.id,
        reply.text
    );
}
