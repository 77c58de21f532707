//! `template.yaml`, `infra/alarms.yaml` and `infra/ecs.yaml` as a graph, and the rules that a deployment lives by.
//!
//! Owns: the rules that no linter knows, because they join the template to our code, its limits and its runbooks. Each is
//! a function from the stack to what is wrong with it, and beside each stands a stack that breaks it. Does not own: the
//! schema of CloudFormation (`make lint`), what a function does with its environment (`lambda`).

mod access;
mod ecs;
mod environment;
mod graph;
pub(crate) mod guard;
mod operations;
mod references;
mod stack;
mod storage;
mod times;
mod workflows;

use serde_json::Value;

use self::stack::Stack;

/// What is wrong, one line each.
type Problems = Vec<String>;
/// A rule, and changes that break it: each must be found.
type Rule = (&'static str, fn(&Stack) -> Problems, &'static [fn(&mut Stack)]);

/// Holds a stack to rules, and the rules to the stacks that break them.
fn hold(rules: &[Rule]) {
    let stack = Stack::read();
    for (promise, rule, broken) in rules {
        let problems = rule(&stack);
        assert!(problems.is_empty(), "{promise}:\n{}", problems.join("\n"));
        assert!(!broken.is_empty(), "{promise}: nobody has seen it fail");
        for (index, damage) in broken.iter().enumerate() {
            let mut stack = Stack::read();
            damage(&mut stack);
            assert!(!rule(&stack).is_empty(), "{promise}: the damage number {index} was not found");
        }
    }
}

/// The strings of a list, or the one string that stands for a list of one.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}
