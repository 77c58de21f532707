//! Functions as `template.yaml` describes them: program, memory, time, environment, routes.
//!
//! Owns: the values that a deployment would put in place of intrinsics. Does not own: what the embedded AWS calls its
//! tables (`rotoless_embedded`). Invariant: nothing is made up: a name that the template does not give is not there, and
//! an intrinsic that is not known here ends the test.

use std::collections::BTreeMap;
use std::time::Duration;

use rotoless_contract::signature::sha256_hex;
use rotoless_embedded::template::{ACCOUNT_ID, Resources, TEMPLATE};
use rotoless_embedded::{REGION, STACK};
use serde_json::Value;

/// The template with its parameters' values.
pub(crate) struct Template {
    template: Value,
    parameters: BTreeMap<String, String>,
    /// Physical names by logical ids, as `Ref` has them.
    names: BTreeMap<String, String>,
}

/// The HTTP API's id, which is a part of its origin.
const API: &str = "a1b2c3d4e5";

/// A route of the HTTP API: `None` is the default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) function: String,
    pub(crate) key: Option<(String, String)>,
}

impl Template {
    /// A deployment with these parameters; queues answer at `sqs_url`.
    pub(crate) fn new(sqs_url: &str, parameters: BTreeMap<String, String>) -> Self {
        let template: Value = serde_saphyr::from_str(TEMPLATE).unwrap();
        let resources = Resources::of_stack(STACK).unwrap();
        let mut names = BTreeMap::new();
        names.extend(resources.tables.iter().map(|table| (table.logical_id.clone(), table.name.clone())));
        names.extend(resources.buckets.iter().map(|bucket| (bucket.logical_id.clone(), bucket.name.clone())));
        let url = |name: &str| format!("{sqs_url}/{ACCOUNT_ID}/{name}");
        names.extend(resources.queues.iter().map(|queue| (queue.logical_id.clone(), url(&queue.name))));
        Self { template, parameters, names }
    }

    /// The origin of the API as the template names it.
    pub(crate) fn origin(&self) -> String {
        format!("https://{API}.execute-api.{REGION}.amazonaws.com")
    }

    fn function(&self, id: &str) -> &Value {
        let resource = &self.template["Resources"][id];
        assert_eq!(resource["Type"], "AWS::Serverless::Function", "{id} is no function of template.yaml");
        &resource["Properties"]
    }

    fn property(&self, id: &str, name: &str) -> u64 {
        let own = &self.function(id)[name];
        let value = if own.is_null() { &self.template["Globals"]["Function"][name] } else { own };
        self.text(value).expect("a value").parse().unwrap()
    }

    pub(crate) fn time(&self, id: &str) -> Duration {
        Duration::from_secs(self.property(id, "Timeout"))
    }

    /// In MiB.
    pub(crate) fn memory(&self, id: &str) -> u64 {
        self.property(id, "MemorySize")
    }

    /// The environment that the template gives a function.
    pub(crate) fn environment(&self, id: &str) -> BTreeMap<String, String> {
        let ignored = &self.template["Resources"][id]["IgnoreGlobals"];
        let ignores = |name: &str| ignored.as_array().is_some_and(|ignored| ignored.contains(&name.into()));
        let globals = if ignores("Environment") { &Value::Null } else { &self.template["Globals"]["Function"] };
        let globals = &globals["Environment"]["Variables"];
        let own = &self.function(id)["Environment"]["Variables"];
        let variables = [globals, own].into_iter().filter_map(Value::as_object).flatten();
        variables.filter_map(|(name, value)| Some((name.clone(), self.text(value)?))).collect()
    }

    /// The routes of the HTTP API.
    pub(crate) fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        for (function, resource) in self.template["Resources"].as_object().unwrap() {
            for event in resource["Properties"]["Events"].as_object().into_iter().flatten().map(|(_, event)| event) {
                if event["Type"] == "HttpApi" {
                    let text = |name: &str| event["Properties"][name].as_str().map(str::to_owned);
                    routes.push(Route { function: function.clone(), key: text("Method").zip(text("Path")) });
                }
            }
        }
        routes
    }

    /// A value with its intrinsics resolved; `None` is `AWS::NoValue`.
    fn text(&self, value: &Value) -> Option<String> {
        let (intrinsic, argument) = match value {
            Value::String(text) => return Some(self.dynamic(text)),
            Value::Number(number) => return Some(number.to_string()),
            Value::Bool(is_set) => return Some(is_set.to_string()),
            Value::Object(object) if object.len() == 1 => object.iter().next().unwrap(),
            Value::Null | Value::Array(_) | Value::Object(_) => panic!("not a value of an environment: {value}"),
        };
        match intrinsic.as_str() {
            "Ref" if argument == "AWS::NoValue" => None,
            "Ref" => Some(self.named(argument.as_str().unwrap())),
            "Fn::GetAtt" => {
                let parts = argument.as_array().expect("Fn::GetAtt in its long form");
                let path: Vec<&str> = parts.iter().map(|part| part.as_str().unwrap()).collect();
                Some(self.attribute(path[0], path[1]))
            }
            "Fn::Sub" => Some(self.dynamic(&self.substituted(argument.as_str().expect("Fn::Sub of a text")))),
            "Fn::If" => self.text(&argument[if self.condition(argument[0].as_str().unwrap()) { 1 } else { 2 }]),
            "Fn::Join" => {
                let parts = argument[1].as_array().unwrap().iter().filter_map(|part| self.text(part));
                Some(parts.collect::<Vec<_>>().join(argument[0].as_str().unwrap()))
            }
            "Fn::Select" => {
                let index: usize = self.text(&argument[0])?.parse().unwrap();
                let list = self.text(&argument[1]["Fn::Split"][1])?;
                list.split(argument[1]["Fn::Split"][0].as_str().unwrap()).nth(index).map(str::to_owned)
            }
            other => panic!("{other} is not known here"),
        }
    }

    fn substituted(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').expect("a closed ${");
            out.push_str(before);
            match name.split_once('.') {
                Some((resource, attribute)) => out.push_str(&self.attribute(resource, attribute)),
                None => out.push_str(&self.named(name)),
            }
            rest = after;
        }
        out + rest
    }

    /// What `Ref` gives.
    fn named(&self, name: &str) -> String {
        match name {
            "AWS::Region" => REGION.to_owned(),
            "AWS::AccountId" => ACCOUNT_ID.to_owned(),
            "AWS::StackName" => STACK.to_owned(),
            "AWS::URLSuffix" => "amazonaws.com".to_owned(),
            "AWS::Partition" => "aws".to_owned(),
            _ => self.parameter(name).unwrap_or_else(|| self.resource(name)),
        }
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let definition = self.template["Parameters"].get(name)?;
        let given = self.parameters.get(name).cloned();
        Some(given.unwrap_or_else(|| self.text(&definition["Default"]).expect("a parameter with a value")))
    }

    fn resource(&self, id: &str) -> String {
        if let Some(name) = self.names.get(id) {
            return name.clone();
        }
        let resource = &self.template["Resources"][id];
        match resource["Type"].as_str() {
            Some("AWS::Serverless::HttpApi") => API.to_owned(),
            Some("AWS::SecretsManager::Secret") => self.attribute(id, "Id"),
            other => panic!("template.yaml refers to {id} of type {other:?}, which has no name here"),
        }
    }

    fn attribute(&self, id: &str, attribute: &str) -> String {
        match self.template["Resources"][id]["Type"].as_str() {
            Some("AWS::Serverless::HttpApi") if attribute == "ApiEndpoint" => self.origin(),
            Some(_) if matches!(attribute, "Arn" | "Id") => format!("arn:aws:of:{REGION}:{ACCOUNT_ID}:{id}"),
            other => panic!("{id}.{attribute} of type {other:?} is not known here"),
        }
    }

    /// A secret that the deployment generates: one for each key of each secret, the same wherever it is used.
    fn dynamic(&self, text: &str) -> String {
        let Some((before, rest)) = text.split_once("{{resolve:secretsmanager:") else { return text.to_owned() };
        let (reference, after) = rest.split_once("}}").expect("a closed dynamic reference");
        format!("{before}{}{}", sha256_hex(reference.as_bytes()), self.dynamic(after))
    }

    fn condition(&self, name: &str) -> bool {
        self.holds(&self.template["Conditions"][name])
    }

    fn holds(&self, condition: &Value) -> bool {
        let (function, argument) = condition.as_object().expect("a condition").iter().next().unwrap();
        let all = || argument.as_array().unwrap().iter();
        match function.as_str() {
            "Fn::Equals" => self.text(&argument[0]) == self.text(&argument[1]),
            "Fn::Not" => !self.holds(&argument[0]),
            "Fn::And" => all().all(|one| self.holds(one)),
            "Fn::Or" => all().any(|one| self.holds(one)),
            "Condition" => self.condition(argument.as_str().unwrap()),
            other => panic!("{other} is not known here"),
        }
    }
}
