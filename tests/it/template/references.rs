//! Nothing is referred to that is not there, and nothing is there that nobody refers to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::graph::{conditions, references, strings};
use super::stack::{Stack, at, section, without};
use super::{Problems, hold};

const PSEUDO: [&str; 7] = [
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

fn both(stack: &Stack) -> [(&'static str, &Value); 2] {
    [("template.yaml", &stack.main), ("infra/alarms.yaml", &stack.alarms)]
}

fn every_reference_has_its_target(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (file, template) in both(stack) {
        for reference in references(template) {
            let to = reference.to.as_str();
            let known = PSEUDO.contains(&to)
                || section(template, "Resources").contains_key(to)
                || section(template, "Parameters").contains_key(to);
            if !known {
                problems.push(format!("{file}: {} refers to {to}", reference.from));
            }
        }
        let defined: BTreeSet<String> = section(template, "Conditions").keys().cloned().collect();
        let used = conditions(template);
        problems.extend(used.symmetric_difference(&defined).map(|name| format!("{file}: condition {name}")));
    }
    problems
}

/// Wherever a resource may be missing, nobody counts on it.
fn what_may_be_missing_is_counted_on_by_nobody(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (file, template) in both(stack) {
        for reference in references(template) {
            let condition = template["Resources"][&reference.to]["Condition"].as_str();
            if let Some(condition) = condition.filter(|condition| !reference.under.contains(*condition)) {
                problems.push(format!("{file}: {} uses {} without {condition}", reference.from, reference.to));
            }
        }
    }
    problems
}

fn every_parameter_is_used_and_has_an_answer(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (file, template) in both(stack) {
        let used: BTreeSet<String> = references(template).into_iter().map(|reference| reference.to).collect();
        for name in section(template, "Parameters").keys().filter(|name| !used.contains(*name)) {
            problems.push(format!("{file}: nobody uses {name}"));
        }
    }
    for (name, parameter) in section(&stack.main, "Parameters") {
        if parameter.get("Default").is_none() {
            problems.push(format!("{name} has no default: a first deployment asks for it"));
        }
        // `sam deploy --guided` accepts no empty answer for a parameter with NoEcho.
        if parameter.get("NoEcho").is_some() {
            problems.push(format!("{name} has NoEcho: a guided deployment cannot go past it without a value"));
        }
        let described = parameter["Description"].as_str().is_some_and(|text| !text.is_empty());
        if !described || !stack.runbooks.contains(&format!("`{name}`")) {
            problems.push(format!("{name} is not explained in docs/OPERATIONS.md"));
        }
    }
    problems
}

/// What the nested stack asks for is what it is given, and the other way round.
fn the_nested_stack_gets_what_it_asks_for(stack: &Stack) -> Problems {
    let nested = &stack.main["Resources"]["Observability"]["Properties"];
    let names = |map: &Value| map.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let (asked, given) = (names(&stack.alarms["Parameters"]), names(&nested["Parameters"]));
    let mut problems: Problems = asked.symmetric_difference(&given).map(|name| format!("parameter {name}")).collect();
    if nested["TemplateURL"] != "infra/alarms.yaml" {
        problems.push(format!("TemplateURL {}", nested["TemplateURL"]));
    }
    for reference in references(&stack.main).iter().filter(|reference| reference.to == "Observability") {
        let output = reference.attribute.as_deref().and_then(|attribute| attribute.strip_prefix("Outputs."));
        if output.is_none_or(|output| stack.alarms["Outputs"].get(output).is_none()) {
            problems.push(format!("{} asks for {:?}", reference.from, reference.attribute));
        }
    }
    problems
}

/// One template for every region, account and partition.
fn no_region_account_or_partition_is_written_down(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    for (file, template) in both(stack) {
        for part in ["Globals", "Resources", "Outputs"] {
            strings(&template[part], &mut |text| {
                let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect::<Vec<_>>();
                let is_region = |word: &&str| {
                    let parts: Vec<&str> = word.split('-').collect();
                    matches!(parts[..], [area, _, number] if area.len() == 2 && number.len() == 1 && digits(number))
                };
                let account =
                    words.iter().flat_map(|word| word.split('-')).any(|word| word.len() == 12 && digits(word));
                if words.iter().any(is_region) || account || text.contains("arn:aws") {
                    problems.push(format!("{file}: {text}"));
                }
            });
        }
    }
    problems
}

#[test]
fn the_graph_is_whole() {
    hold(&[
        (
            "every reference has its target",
            every_reference_has_its_target,
            &[
                |stack| {
                    *stack.at("ApiRole", "/Policies/0/PolicyDocument/Statement/3/Resource/0") =
                        json!({"Fn::GetAtt": ["Keys", "Arn"]})
                },
                |stack| {
                    *stack.at("WorkerFunction", "/Environment/Variables/CONTROL_URL") =
                        json!({"Fn::Sub": "https://${Public}"})
                },
                |stack| *at(&mut stack.main, "/Resources/WorkerFunction/DependsOn") = json!("Callback"),
                |stack| without(&mut stack.main, "/Conditions", "HasDomain"),
                |stack| without(&mut stack.alarms, "/Resources", "AlarmTopic"),
            ],
        ),
        (
            "what may be missing is counted on by nobody",
            what_may_be_missing_is_counted_on_by_nobody,
            &[
                |stack| without(&mut stack.main, "/Outputs/DomainTarget", "Condition"),
                |stack| *stack.at("Observability", "/Parameters/WorkerFunction") = json!({"Ref": "WorkerFunction"}),
                |stack| *stack.at("ApiFunction", "/Environment/Variables/ADMIN_TOKEN/Fn::If/0") = json!("HasDomain"),
            ],
        ),
        (
            "every parameter is used and has an answer",
            every_parameter_is_used_and_has_an_answer,
            &[
                |stack| without(&mut stack.main, "/Parameters/AlarmEmail", "Default"),
                |stack| at(&mut stack.main, "/Parameters/AlarmEmail")["NoEcho"] = json!(true),
                |stack| at(&mut stack.main, "/Parameters")["Forgotten"] = json!({"Type": "String", "Default": ""}),
                |stack| stack.runbooks = stack.runbooks.replace("`AlarmEmail`", ""),
            ],
        ),
        (
            "the nested stack gets what it asks for",
            the_nested_stack_gets_what_it_asks_for,
            &[
                |stack| without(&mut stack.main, "/Resources/Observability/Properties/Parameters", "JobsTable"),
                |stack| without(&mut stack.alarms, "/Outputs", "DashboardUrl"),
            ],
        ),
        (
            "no region, account or partition is written down",
            no_region_account_or_partition_is_written_down,
            &[
                |stack| {
                    *stack.at("WorkerFunction", "/Environment/Variables/CONTROL_URL") =
                        json!("https://a.execute-api.eu-west-1.amazonaws.com")
                },
                |stack| *stack.at("MediaBucket", "/BucketName") = json!("media-123456789012"),
                |stack| {
                    *stack.at("WorkerRole", "/Policies/0/PolicyDocument/Statement/2/Resource") =
                        json!("arn:aws:sqs:*:*:jobs")
                },
            ],
        ),
    ]);
}
