//! Times that must agree, and limits of AWS that no schema knows.

use serde_json::{Value, json};

use super::stack::{Stack, without};
use super::{Problems, hold};

/// Length of a lease in seconds; the worker's default for its message's invisibility.
fn lease() -> u64 {
    let key = rotoless_gpu_handler::KEYS.iter().find(|key| key.name == "VISIBILITY_SECONDS").unwrap();
    key.default.unwrap().parse().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn events<'a>(function: &'a Value, kind: &str) -> Vec<&'a Value> {
    let events = function["Events"].as_object().into_iter().flatten().map(|(_, event)| event);
    events.filter(|event| event["Type"] == kind).map(|event| &event["Properties"]).collect()
}

/// What waits for an answer waits longer than the one that answers works.
fn everybody_waits_longer_than_is_worked(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, function) in stack.functions() {
        let timeout = number(stack.property(function, "Timeout"));
        for event in events(function, "HttpApi") {
            let gateway = event["TimeoutInMillis"].as_u64().unwrap_or(30_000);
            if timeout * 1000 >= gateway || gateway > 30_000 {
                problems.push(format!("{id} may take {timeout} s, and the gateway waits {gateway} ms"));
            }
        }
        for event in events(function, "Schedule") {
            // A tick that is cut short is followed by the next.
            if event["Schedule"] != "rate(1 minute)" || timeout >= 60 {
                problems.push(format!("{id} may take {timeout} s, {}", event["Schedule"]));
            }
        }
        if timeout > 900 {
            problems.push(format!("{id}: {timeout} s is more than Lambda has"));
        }
    }
    problems
}

/// A function's queue hides a message for six times the function's time, as AWS asks; the work itself is done by lease.
fn queues_and_functions_agree(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let mut fed = 0;
    for (id, function) in stack.functions() {
        for event in events(function, "SQS") {
            fed += 1;
            let queue = event["Queue"]["Fn::GetAtt"][0].as_str().unwrap();
            let queue = &stack.main["Resources"][queue]["Properties"];
            let (hidden, timeout) = (number(&queue["VisibilityTimeout"]), number(stack.property(function, "Timeout")));
            if hidden < 6 * timeout || hidden > 43_200 {
                problems.push(format!("{id} may take {timeout} s, its queue hides a message for {hidden} s"));
            }
            if event["FunctionResponseTypes"] != json!(["ReportBatchItemFailures"]) || event["BatchSize"] != 1 {
                problems.push(format!("{id}: one message at a time, and each answered for itself"));
            }
            // Turns of a long video, each a receive; AWS asks for 5 at least.
            if number(&queue["RedrivePolicy"]["maxReceiveCount"]) < 30 {
                problems.push(format!("{id}: a long video would end in the dead letter queue"));
            }
            // Below 2 Lambda refuses the mapping.
            let most = &event["ScalingConfig"]["MaximumConcurrency"];
            let least = most["Ref"].as_str().map(|name| number(&stack.main["Parameters"][name]["MinValue"]));
            if least.or(most.as_u64()).is_none_or(|least| least < 2) {
                problems.push(format!("{id}: no cap on workers, or one below 2"));
            }
        }
    }
    if fed == 0 {
        problems.push("no function takes from a queue".to_owned());
    }
    let policy = rotoless_core::policy::Policy::default().lease.as_secs().unsigned_abs();
    if lease() != policy {
        problems.push(format!("workers hide messages for {} s, a lease is {policy} s", lease()));
    }
    problems
}

/// Nobody repeats a tick but the next one.
fn ticks_are_not_repeated(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, function) in stack.functions() {
        for event in events(function, "Schedule") {
            let once = |of: &Value| of["MaximumRetryAttempts"] == 0 && of["MaximumEventAgeInSeconds"] == 60;
            if !once(&event["RetryPolicy"]) || !once(&function["EventInvokeConfig"]) {
                problems.push(format!("{id}: a late tick would run beside the next"));
            }
        }
    }
    problems
}

/// A new account has ten concurrent executions and 3008 MB a function: the first deployment must fit in.
fn a_first_deployment_fits_a_new_account(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let default = |name: &str| number(&stack.main["Parameters"][name]["Default"]);
    if default("WorkerMemory") > 3008 {
        problems.push(format!("WorkerMemory {}", default("WorkerMemory")));
    }
    if default("WorkerConcurrency") > 5 {
        problems.push(format!("WorkerConcurrency {}", default("WorkerConcurrency")));
    }
    for (id, function) in stack.functions() {
        let reserved = &function["ReservedConcurrentExecutions"];
        let is_option =
            reserved["Fn::If"][0] == "ConcurrencyReserved" && reserved["Fn::If"][2]["Ref"] == "AWS::NoValue";
        if !(reserved.is_null() || is_option && default("ReservedConcurrency") == 0) {
            problems.push(format!("{id} reserves what a new account does not have"));
        }
    }
    problems
}

#[test]
fn times_agree() {
    hold(&[
        (
            "everybody waits longer than is worked",
            everybody_waits_longer_than_is_worked,
            &[
                |stack| *stack.at("ApiFunction", "/Timeout") = json!(30),
                |stack| *stack.at("SweepFunction", "/Timeout") = json!(60),
                |stack| *stack.at("WorkerFunction", "/Timeout") = json!(901),
                |stack| *stack.at("ApiFunction", "/Events/Public/Properties/TimeoutInMillis") = json!(31_000),
            ],
        ),
        (
            "queues and functions agree",
            queues_and_functions_agree,
            &[
                |stack| *stack.at("JobsQueue", "/VisibilityTimeout") = json!(900),
                |stack| {
                    without(
                        &mut stack.main,
                        "/Resources/WorkerFunction/Properties/Events/Jobs/Properties",
                        "FunctionResponseTypes",
                    )
                },
                |stack| {
                    *stack.at("WorkerFunction", "/Events/Jobs/Properties/ScalingConfig/MaximumConcurrency") = json!(1)
                },
                |stack| *stack.at("JobsQueue", "/RedrivePolicy/maxReceiveCount") = json!(10),
                |stack| without(&mut stack.main, "/Resources/WorkerFunction/Properties", "Events"),
            ],
        ),
        (
            "ticks are not repeated",
            ticks_are_not_repeated,
            &[
                |stack| without(&mut stack.main, "/Resources/SweepFunction/Properties", "EventInvokeConfig"),
                |stack| {
                    *stack.at("DeliverFunction", "/Events/Tick/Properties/RetryPolicy/MaximumRetryAttempts") =
                        json!(185)
                },
            ],
        ),
        (
            "a first deployment fits a new account",
            a_first_deployment_fits_a_new_account,
            &[
                |stack| stack.main["Parameters"]["WorkerMemory"]["Default"] = json!(10_240),
                |stack| stack.main["Parameters"]["WorkerConcurrency"]["Default"] = json!(10),
                |stack| *stack.at("SweepFunction", "/ReservedConcurrentExecutions") = json!(1),
            ],
        ),
    ]);
}
