//! The documents of a deployment, parsed.

use serde_json::{Map, Value};

use crate::architecture::root;

/// Everything that describes a deployment.
pub(super) struct Stack {
    /// `template.yaml`.
    pub(super) main: Value,
    /// `infra/alarms.yaml`.
    pub(super) alarms: Value,
    /// `infra/ecs.yaml`.
    pub(super) ecs: Value,
    /// `docs/OPERATIONS.md`.
    pub(super) runbooks: String,
}

impl Stack {
    pub(super) fn read() -> Self {
        let text =
            |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"));
        let yaml = |path: &str| serde_saphyr::from_str(&text(path)).unwrap_or_else(|err| panic!("{path}: {err}"));
        Self {
            main: yaml("template.yaml"),
            alarms: yaml("infra/alarms.yaml"),
            ecs: yaml("infra/ecs.yaml"),
            runbooks: text("docs/OPERATIONS.md"),
        }
    }

    /// The main template's resources of a type, by logical id.
    pub(super) fn of(&self, kind: &str) -> Vec<(&str, &Value)> {
        resources(&self.main).filter(|(_, resource)| resource["Type"] == kind).collect()
    }

    /// Logical ids of the functions, with their properties.
    pub(super) fn functions(&self) -> Vec<(&str, &Value)> {
        let functions = self.of("AWS::Serverless::Function");
        assert!(functions.len() >= 4, "the functions are not where they were");
        functions.into_iter().map(|(id, function)| (id, &function["Properties"])).collect()
    }

    /// A property of a function, its own or the common one.
    pub(super) fn property<'a>(&'a self, function: &'a Value, name: &str) -> &'a Value {
        let own = &function[name];
        if own.is_null() { &self.main["Globals"]["Function"][name] } else { own }
    }

    /// A property of a resource of the main template, to be damaged.
    pub(super) fn at(&mut self, id: &str, path: &str) -> &mut Value {
        at(&mut self.main, &format!("/Resources/{id}/Properties{path}"))
    }
}

/// What is at a path that must be there.
pub(super) fn at<'a>(document: &'a mut Value, path: &str) -> &'a mut Value {
    document.pointer_mut(path).unwrap_or_else(|| panic!("{path} is not there"))
}

/// Takes a member out of the object at a path.
pub(super) fn without(document: &mut Value, path: &str, member: &str) {
    let object = at(document, path).as_object_mut().unwrap();
    assert!(object.remove(member).is_some(), "{path} has no {member}");
}

/// The resources of a template, in order.
pub(super) fn resources(template: &Value) -> impl Iterator<Item = (&str, &Value)> {
    section(template, "Resources").iter().map(|(id, resource)| (id.as_str(), resource))
}

/// A section of a template.
pub(super) fn section<'a>(template: &'a Value, name: &str) -> &'a Map<String, Value> {
    template[name].as_object().unwrap_or_else(|| panic!("no {name}"))
}
