//! What wakes people, and what they find then: logs, alarms, runbooks.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::graph::strings;
use super::stack::{Stack, at, resources, without};
use super::{Problems, hold};

/// Every metric that the functions write, by name (docs/OPERATIONS.md).
const METRICS: [&str; 28] = [
    "AttemptSeconds",
    "ColdStarts",
    "CreditInvariantBroken",
    "CreditsCaptured",
    "CreditsHeld",
    "CreditsReleased",
    "DeliverHeartbeat",
    "DeliveriesGivenUp",
    "DeliveriesRetried",
    "DeliveriesSent",
    "JobsCancelled",
    "JobsCompleted",
    "JobsCreated",
    "JobsFailed",
    "JobsQueued",
    "OldestDueSeconds",
    "SweepHeartbeat",
    "WakeServiceSilent",
    "WakesLost",
    "WakesPosted",
    "WakesQueued",
    "WakesStuck",
    "WorkerSecondsPerOutputSecond",
    "WorkersBarred",
    "WorkersForbidden",
    "WorkersIdling",
    "WorkersRunning",
    "WorkersThrottled",
];
/// Yes or no: each has an alarm of its own, and is no curve.
const FINDINGS: [&str; 6] =
    ["CreditInvariantBroken", "WakeServiceSilent", "WakesStuck", "WorkersBarred", "WorkersForbidden", "WorkersIdling"];
const HEARTBEATS: [&str; 2] = ["DeliverHeartbeat", "SweepHeartbeat"];
const NAMESPACE: &str = "Rotoless";

fn alarms(stack: &Stack) -> Vec<(&str, &Value)> {
    let alarms = resources(&stack.alarms).filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm");
    alarms.map(|(id, alarm)| (id, &alarm["Properties"])).collect()
}

/// The metrics of an alarm, as objects with `Namespace`, `MetricName` and `Dimensions`.
fn metrics(alarm: &Value) -> Vec<&Value> {
    match alarm["Metrics"].as_array() {
        Some(list) => {
            list.iter().map(|part| &part["MetricStat"]["Metric"]).filter(|metric| metric.is_object()).collect()
        }
        None => vec![alarm],
    }
}

/// The anchor of a heading, as GitHub and most others make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(stack: &Stack) -> BTreeSet<String> {
    let headings = stack.runbooks.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

fn every_alarm_says_what_to_do_and_tells_somebody(stack: &Stack) -> Problems {
    let (mut problems, anchors) = (Problems::new(), anchors(stack));
    for (id, alarm) in alarms(stack) {
        let description = alarm["AlarmDescription"].as_str().unwrap_or_default();
        let runbook = description.split_once("Runbook: docs/OPERATIONS.md#").map(|(_, anchor)| anchor);
        if !runbook.is_some_and(|anchor| anchors.contains(anchor)) {
            problems.push(format!("{id}: no section {runbook:?}"));
        }
        let topic = json!([{"Ref": "AlarmTopic"}]);
        if alarm["AlarmActions"] != topic || alarm["OKActions"] != topic {
            problems.push(format!("{id} tells nobody"));
        }
        if !stack.runbooks.contains(&format!("`{id}`")) {
            problems.push(format!("{id} is not in the list of alarms"));
        }
    }
    let named = |anchor: &String| {
        alarms(stack)
            .iter()
            .any(|(_, alarm)| alarm["AlarmDescription"].as_str().unwrap().ends_with(&format!("#{anchor}")))
    };
    let orphans = anchors.iter().filter(|anchor| anchor.starts_with("alarm-") && !named(anchor));
    problems.extend(orphans.map(|anchor| format!("no alarm leads to {anchor}")));
    problems
}

/// What goes on by itself is missed when it does not.
fn silence_is_an_alarm_where_something_beats_and_nowhere_else(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let mut watched = BTreeSet::new();
    for (id, alarm) in alarms(stack) {
        let beats: Vec<&str> = metrics(alarm)
            .into_iter()
            .filter(|metric| metric["Namespace"] == NAMESPACE)
            .filter_map(|metric| metric["MetricName"].as_str())
            .filter(|name| HEARTBEATS.contains(name))
            .collect();
        let expected = if beats.is_empty() { "notBreaching" } else { "breaching" };
        if alarm["TreatMissingData"] != expected {
            problems.push(format!("{id}: missing data are {}", alarm["TreatMissingData"]));
        }
        if !beats.is_empty() {
            let minutes = alarm["EvaluationPeriods"].as_u64().unwrap() * alarm["Period"].as_u64().unwrap() / 60;
            let below_one = alarm["ComparisonOperator"] == "LessThanThreshold" && alarm["Threshold"] == 1;
            if !below_one || !(3..=10).contains(&minutes) {
                problems.push(format!("{id} hears nothing, or too late"));
            }
        }
        watched.extend(beats);
    }
    problems
        .extend(HEARTBEATS.iter().filter(|beat| !watched.contains(*beat)).map(|beat| format!("nobody hears {beat}")));
    problems
}

fn every_metric_of_ours_is_one_that_is_written(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, alarm) in alarms(stack) {
        for metric in metrics(alarm).into_iter().filter(|metric| metric["Namespace"] == NAMESPACE) {
            let known = metric["MetricName"].as_str().is_some_and(|name| METRICS.contains(&name));
            if !known || metric["Dimensions"] != json!([{"Name": "Stack", "Value": {"Ref": "Stack"}}]) {
                problems.push(format!("{id}: {}", metric["MetricName"]));
            }
        }
    }
    let body = stack.alarms["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(body).unwrap();
    let mut shown = BTreeSet::new();
    for widget in dashboard["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap().iter().filter(|metric| metric[0] == NAMESPACE)
        {
            shown.insert(metric[1].as_str().unwrap().to_owned());
            if metric[2] != "Stack" || metric[3] != "${Stack}" {
                problems.push(format!("dashboard: {metric}"));
            }
        }
    }
    let expected = METRICS.iter().filter(|name| !FINDINGS.contains(name)).map(|name| (*name).to_owned()).collect();
    problems.extend(shown.symmetric_difference(&expected).map(|name| format!("dashboard: {name}")));
    problems
}

/// A function that fails, a queue that nobody empties, a dead letter: each is noticed.
fn whatever_can_fail_is_watched(stack: &Stack) -> Problems {
    let mut watched = BTreeSet::new();
    for (_, alarm) in alarms(stack) {
        for metric in metrics(alarm) {
            let of = metric["Dimensions"][0]["Value"]["Ref"].as_str().unwrap_or_default();
            watched.insert(format!("{} {of}", metric["MetricName"].as_str().unwrap()));
        }
    }
    let functions = stack.functions();
    let errors = functions.iter().map(|(id, _)| format!("Errors {id}"));
    // The worker's event source waits by itself.
    let throttles = functions.iter().filter(|(id, _)| *id != "WorkerFunction").map(|(id, _)| format!("Throttles {id}"));
    let others = [
        "ApproximateNumberOfMessagesVisible JobsDeadLetterQueue",
        "ApproximateAgeOfOldestMessage JobsQueue",
        "5xx Api",
        "OldestDueSeconds Stack",
        "JobsFailed Stack",
        "WriteThrottleEvents AccountsTable",
    ];
    let findings = FINDINGS.map(|name| format!("{name} Stack"));
    let needed = errors.chain(throttles).chain(others.map(str::to_owned)).chain(findings);
    needed.filter(|what| !watched.contains(what)).map(|what| format!("nobody watches {what}")).collect()
}

fn every_log_ends_and_has_its_place(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, function) in stack.functions() {
        let group = id.replace("Function", "Logs");
        if function["LoggingConfig"] != json!({"LogFormat": "JSON", "LogGroup": {"Ref": group}}) {
            problems.push(format!("{id} logs elsewhere, or not as JSON"));
        }
    }
    let groups = stack.of("AWS::Logs::LogGroup");
    if groups.len() != stack.functions().len() + 1 {
        problems.push(format!("{} groups of logs", groups.len()));
    }
    for (id, group) in groups {
        if group["Properties"]["RetentionInDays"] != json!({"Ref": "LogRetentionDays"}) {
            problems.push(format!("{id} is kept for ever"));
        }
    }
    // Neither people nor secrets are in the gateway's lines.
    strings(&stack.main["Resources"]["PublicApi"]["Properties"]["AccessLogSettings"], &mut |text| {
        let shown = ["sourceIp", "userAgent", "queryString", "authorizer", "header"];
        problems
            .extend(shown.iter().filter(|name| text.contains(*name)).map(|name| format!("the gateway logs {name}")));
    });
    problems
}

/// G-40
#[test]
fn people_are_woken_by_what_matters_and_told_what_to_do() {
    hold(&[
        (
            "every alarm says what to do and tells somebody",
            every_alarm_says_what_to_do_and_tells_somebody,
            &[
                |stack| stack.runbooks = stack.runbooks.replace("Alarm: DeadLetters", "Dead letters"),
                |stack| stack.runbooks.push_str("\n### Alarm: Forgotten\n"),
                |stack| without(&mut stack.alarms, "/Resources/QueueAge/Properties", "AlarmActions"),
                |stack| *at(&mut stack.alarms, "/Resources/QueueAge/Properties/AlarmDescription") = json!("Old"),
            ],
        ),
        (
            "silence is an alarm where something beats and nowhere else",
            silence_is_an_alarm_where_something_beats_and_nowhere_else,
            &[
                |stack| *at(&mut stack.alarms, "/Resources/SweepSilent/Properties/TreatMissingData") = json!("missing"),
                |stack| without(&mut stack.alarms, "/Resources", "DeliverSilent"),
                |stack| *at(&mut stack.alarms, "/Resources/SweepSilent/Properties/EvaluationPeriods") = json!(60),
                |stack| {
                    *at(&mut stack.alarms, "/Resources/DeadLetters/Properties/TreatMissingData") = json!("breaching")
                },
            ],
        ),
        (
            "every metric of ours is one that is written",
            every_metric_of_ours_is_one_that_is_written,
            &[
                |stack| *at(&mut stack.alarms, "/Resources/JobsOverdue/Properties/MetricName") = json!("OldestDue"),
                |stack| {
                    *at(&mut stack.alarms, "/Resources/JobsOverdue/Properties/Dimensions/0/Name") = json!("StackName")
                },
                |stack| {
                    let body = at(&mut stack.alarms, "/Resources/Dashboard/Properties/DashboardBody/Fn::Sub");
                    *body = json!(body.as_str().unwrap().replace("ColdStarts", "ColdStart"));
                },
            ],
        ),
        (
            "whatever can fail is watched",
            whatever_can_fail_is_watched,
            &[
                |stack| without(&mut stack.alarms, "/Resources", "WorkerErrors"),
                |stack| without(&mut stack.alarms, "/Resources", "FunctionThrottles"),
                |stack| without(&mut stack.alarms, "/Resources", "CreditInvariantBroken"),
                |stack| without(&mut stack.alarms, "/Resources", "WorkersForbidden"),
            ],
        ),
        (
            "every log ends and has its place",
            every_log_ends_and_has_its_place,
            &[
                |stack| without(&mut stack.main, "/Resources/SweepLogs/Properties", "RetentionInDays"),
                |stack| without(&mut stack.main, "/Resources/SweepFunction/Properties", "LoggingConfig"),
                |stack| {
                    let format = stack.at("PublicApi", "/AccessLogSettings/Fn::If/1/Format");
                    *format = json!(format.as_str().unwrap().replace("$context.path", "$context.identity.sourceIp"));
                },
            ],
        ),
    ]);
}
