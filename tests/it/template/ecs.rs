//! Workers on ECS: from zero, one queue, a worker that finds what it needs, machines that are not taken from under it.

use std::collections::BTreeSet;

use rotoless_gpu_handler::{KEYS, SESSION_KEYS};
use serde_json::{Value, json};

use super::stack::{Stack, at, section};
use super::{Problems, hold, texts};

/// A property of a resource of the stack; null where there is none.
fn property<'a>(stack: &'a Stack, id: &str, path: &str) -> &'a Value {
    stack.ecs.pointer(&format!("/Resources/{id}/Properties{path}")).unwrap_or(&Value::Null)
}

fn damaged<'a>(stack: &'a mut Stack, id: &str, path: &str) -> &'a mut Value {
    at(&mut stack.ecs, &format!("/Resources/{id}/Properties{path}"))
}

/// Says what differs from what must be.
fn fixed(stack: &Stack, wanted: &[(&str, &str, Value)]) -> Problems {
    let differs = |(id, path, value): &&(&str, &str, Value)| property(stack, id, path) != value;
    wanted.iter().filter(differs).map(|(id, path, value)| format!("{id}{path} is not {value}")).collect()
}

fn nothing_runs_and_nothing_is_kept_while_there_is_no_work(stack: &Stack) -> Problems {
    let scaling = "/AutoScalingGroupProvider/ManagedScaling";
    fixed(
        stack,
        &[
            ("Machines", "/MinSize", json!("0")),
            ("Machines", "/DesiredCapacity", json!("0")),
            ("CapacityProvider", &format!("{scaling}/Status"), json!("ENABLED")),
            ("CapacityProvider", &format!("{scaling}/TargetCapacity"), json!(100)),
            ("Task", "/ContainerDefinitions/0/Environment/0", json!({"Name": "SESSIONS", "Value": "drain"})),
        ],
    )
}

fn no_machine_is_taken_from_under_a_worker(stack: &Stack) -> Problems {
    let mut problems = fixed(
        stack,
        &[
            ("Machines", "/NewInstancesProtectedFromScaleIn", json!(true)),
            ("CapacityProvider", "/AutoScalingGroupProvider/ManagedTerminationProtection", json!("ENABLED")),
        ],
    );
    let stop = property(stack, "Task", "/ContainerDefinitions/0/StopTimeout").as_u64().unwrap_or(0);
    // What every home must grant; ECS grants 120 s at most.
    if !(60..=120).contains(&stop) {
        problems.push(format!("a worker has {stop} s to end in order"));
    }
    problems
}

fn the_worker_may_use_one_queue_and_its_machine_lends_it_nothing(stack: &Stack) -> Problems {
    let one_queue = json!([{
        "Effect": "Allow",
        "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
        "Resource": {"Ref": "JobsQueueArn"},
    }]);
    let mut problems = fixed(
        stack,
        &[
            ("TaskRole", "/Policies/0/PolicyDocument/Statement", one_queue),
            ("TaskRole", "/ManagedPolicyArns", Value::Null),
            ("TaskRole", "/Policies/1", Value::Null),
            ("Machine", "/LaunchTemplateData/MetadataOptions/HttpPutResponseHopLimit", json!(1)),
            ("Machine", "/LaunchTemplateData/MetadataOptions/HttpTokens", json!("required")),
            ("NothingComesIn", "/SecurityGroupIngress", Value::Null),
        ],
    );
    if property(stack, "Task", "/NetworkMode") == "host" {
        problems.push("a worker in its machine's own network reaches its machine's role".to_owned());
    }
    problems
}

fn the_worker_is_locked_in_and_has_its_gpu(stack: &Stack) -> Problems {
    let container = "/ContainerDefinitions/0";
    fixed(
        stack,
        &[
            ("Task", &format!("{container}/User"), json!("10001:10001")),
            ("Task", &format!("{container}/ReadonlyRootFilesystem"), json!(true)),
            ("Task", &format!("{container}/Privileged"), json!(false)),
            ("Task", &format!("{container}/LinuxParameters/Capabilities/Drop"), json!(["ALL"])),
            ("Task", &format!("{container}/ResourceRequirements"), json!([{"Type": "GPU", "Value": "1"}])),
        ],
    )
}

/// Beside what the image says (docs/CONTAINER.md).
fn the_worker_is_told_what_it_must_be_told_and_nothing_it_does_not_read(stack: &Stack) -> Problems {
    const OF_THE_IMAGE: [&str; 1] = ["MODELS_DIR"];
    let named = |list: &str, name: &str| -> BTreeSet<String> {
        let list = property(stack, "Task", &format!("/ContainerDefinitions/0/{list}"));
        list.as_array().into_iter().flatten().filter_map(|entry| entry[name].as_str().map(str::to_owned)).collect()
    };
    let (plain, secret) = (named("Environment", "Name"), named("Secrets", "Name"));
    let keys = || KEYS.iter().chain(SESSION_KEYS);
    let mut problems = Problems::new();
    for key in keys() {
        let is_told = plain.contains(key.name) || secret.contains(key.name) || OF_THE_IMAGE.contains(&key.name);
        if key.default.is_none() && !is_told {
            problems.push(format!("{} is not set", key.name));
        }
        if key.secret && plain.contains(key.name) {
            problems.push(format!("{} can be read in the task definition", key.name));
        }
    }
    let is_read = |name: &&String| !keys().any(|key| key.name == **name);
    problems.extend(plain.union(&secret).filter(is_read).map(|name| format!("nobody reads {name}")));
    problems
}

/// The wakers start this definition in this cluster, and lend it these two roles.
fn whoever_wakes_may_start_these_workers_and_no_others(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let mut given = BTreeSet::new();
    let cluster = json!({"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": ["Cluster", "Arn"]}}});
    for statement in property(stack, "Wakers", "/PolicyDocument/Statement").as_array().into_iter().flatten() {
        let resource = statement["Resource"].to_string();
        for action in texts(&statement["Action"]) {
            given.insert(action.to_owned());
            let is_ours = match action {
                "ecs:RunTask" => resource.contains("${AWS::StackName}-worker:*") && statement["Condition"] == cluster,
                "ecs:ListTasks" => statement["Condition"] == cluster,
                "ecs:DescribeTasks" | "ecs:StopTask" => resource.contains("task/${Cluster}/*"),
                "iam:PassRole" => {
                    let to = json!({"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}});
                    !resource.contains('*') && statement["Condition"] == to
                }
                _ => false,
            };
            if statement["Effect"] != "Allow" || !is_ours {
                problems.push(format!("{action} on {resource}"));
            }
        }
    }
    // What `wakers/ecs.rs` calls.
    for needed in ["ecs:RunTask", "ecs:ListTasks", "ecs:DescribeTasks", "ecs:StopTask", "iam:PassRole"] {
        if !given.contains(needed) {
            problems.push(format!("nobody may {needed}"));
        }
    }
    problems
}

/// "Output X of the service" and "The service's parameter X": both stacks are deployed by these words.
fn each_stack_gives_what_the_other_asks_for(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let mut asked = 0;
    let mut check = |asking: &Value, giving: &Value, before: &str, after: &str| {
        for (name, parameter) in section(asking, "Parameters") {
            let Some(text) = parameter["Description"].as_str() else { continue };
            let Some(output) = text.split(before).nth(1).filter(|_| text.contains(after)) else { continue };
            let output: String = output.chars().take_while(char::is_ascii_alphanumeric).collect();
            asked += 1;
            if giving["Outputs"].get(&output).is_none() {
                problems.push(format!("{name}: there is no output {output}"));
            }
        }
    };
    check(&stack.ecs, &stack.main, "Output ", "of the service");
    check(&stack.main, &stack.ecs, "Output ", "of infra/ecs.yaml");
    for (name, output) in section(&stack.ecs, "Outputs") {
        let text = output["Description"].as_str().unwrap_or_default();
        let Some(parameter) = text.strip_prefix("The service's parameter ") else { continue };
        let parameter: String = parameter.chars().take_while(char::is_ascii_alphanumeric).collect();
        asked += 1;
        if stack.main["Parameters"].get(&parameter).is_none() {
            problems.push(format!("{name}: there is no parameter {parameter}"));
        }
    }
    if asked < 10 {
        problems.push(format!("only {asked} words lead from one stack to the other"));
    }
    problems
}

#[test]
fn workers_on_ecs_come_from_nothing_and_may_do_nothing_else() {
    hold(&[
        (
            "nothing runs while there is no work",
            nothing_runs_and_nothing_is_kept_while_there_is_no_work,
            &[
                |stack| *damaged(stack, "Machines", "/MinSize") = json!("1"),
                |stack| *damaged(stack, "Task", "/ContainerDefinitions/0/Environment/0/Value") = json!("poll"),
            ],
        ),
        (
            "no machine is taken from under a worker",
            no_machine_is_taken_from_under_a_worker,
            &[
                |stack| *damaged(stack, "Machines", "/NewInstancesProtectedFromScaleIn") = json!(false),
                |stack| *damaged(stack, "Task", "/ContainerDefinitions/0/StopTimeout") = json!(30),
            ],
        ),
        (
            "a worker may use one queue",
            the_worker_may_use_one_queue_and_its_machine_lends_it_nothing,
            &[
                |stack| *damaged(stack, "TaskRole", "/Policies/0/PolicyDocument/Statement/0/Resource") = json!("*"),
                |stack| *damaged(stack, "Task", "/NetworkMode") = json!("host"),
                |stack| {
                    *damaged(stack, "Machine", "/LaunchTemplateData/MetadataOptions/HttpPutResponseHopLimit") =
                        json!(2);
                },
            ],
        ),
        (
            "a worker is locked in and has its GPU",
            the_worker_is_locked_in_and_has_its_gpu,
            &[
                |stack| *damaged(stack, "Task", "/ContainerDefinitions/0/ReadonlyRootFilesystem") = json!(false),
                |stack| *damaged(stack, "Task", "/ContainerDefinitions/0/ResourceRequirements") = json!([]),
            ],
        ),
        (
            "a worker is told what it must be told",
            the_worker_is_told_what_it_must_be_told_and_nothing_it_does_not_read,
            &[
                |stack| *damaged(stack, "Task", "/ContainerDefinitions/0/Secrets") = json!([]),
                |stack| *damaged(stack, "Task", "/ContainerDefinitions/0/Environment/1/Name") = json!("IDLE"),
                |stack| *damaged(stack, "Task", "/ContainerDefinitions/0/Environment/1/Name") = json!("FLEET_KEY"),
            ],
        ),
        (
            "whoever wakes may start these workers and no others",
            whoever_wakes_may_start_these_workers_and_no_others,
            &[
                |stack| *damaged(stack, "Wakers", "/PolicyDocument/Statement/0/Resource") = json!("*"),
                |stack| *damaged(stack, "Wakers", "/PolicyDocument/Statement/3/Resource") = json!("*"),
                |stack| *damaged(stack, "Wakers", "/PolicyDocument/Statement/2/Action") = json!(["ecs:DescribeTasks"]),
            ],
        ),
        (
            "each stack gives what the other asks for",
            each_stack_gives_what_the_other_asks_for,
            &[
                |stack| drop(at(&mut stack.main, "/Outputs").as_object_mut().unwrap().remove("WakerRoles")),
                |stack| drop(at(&mut stack.ecs, "/Outputs").as_object_mut().unwrap().remove("Cluster")),
                |stack| drop(at(&mut stack.main, "/Parameters").as_object_mut().unwrap().remove("EcsCluster")),
            ],
        ),
    ]);
}
