//! What the programs read and what the template gives them are the same keys.

use std::collections::BTreeSet;

use rotoless_aws::wakers::choice as wakers;
use serde_json::{Value, json};

use super::stack::{Stack, at, section, without};
use super::{Problems, hold};

/// Set by Lambda itself.
const BY_LAMBDA: [&str; 4] = ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Read, and left to their defaults on AWS, each with its reason.
const LEFT: [(&str, &str); 19] = [
    ("RUST_LOG", "Lambda's own AWS_LAMBDA_LOG_LEVEL says what is logged"),
    ("DYNAMODB_ENDPOINT", "AWS's own"),
    ("SQS_ENDPOINT", "AWS's own"),
    ("S3_ENDPOINT", "AWS's own"),
    ("S3_PUBLIC_ENDPOINT", "AWS's own"),
    ("AWS_ENDPOINT_URL_SQS", "AWS's own"),
    ("ECS_ENDPOINT", "AWS's own"),
    ("RUNPOD_API_URL", "RunPod's own"),
    ("RUNPOD_REST_URL", "RunPod's own"),
    ("ALLOW_EGRESS_DANGEROUS", "no address within a network of ours is anybody's business"),
    ("ALLOW_HTTP_LOOPBACK", "nothing is on loopback"),
    ("DIE_WITH_PARENT", "nobody started it but Lambda"),
    ("WORKER_ID", "each sandbox makes its own"),
    ("THREADS", "as many as Lambda gives processors"),
    ("DEVICE", "Lambda has processors only"),
    ("BATCH", "the processor's default"),
    ("REDUCED_PRECISION", "for GPUs"),
    ("VISIBILITY_SECONDS", "the default is the length of a lease (times.rs)"),
    ("HEARTBEAT_SECONDS", "the default is a third of a lease"),
];

/// Keys that come from a secret of the operator, only where they are needed: its key, and under which condition.
const GIVEN: [(&str, &str, &str); 2] =
    [("RUNPOD_API_KEY", "api_key", "RunPodIsUsed"), ("RUNPOD_STOP_KEY", "stop_key", "RunPodIsStopped")];

/// Which of the keys hold secrets, and the secret of the template that they hold.
const SECRETS: [(&str, &str, &str); 5] = [
    ("ADMIN_TOKEN", "AdminTokenSecret", "admin_token"),
    ("WEBHOOK_MASTER", "WebhookMasterSecret", "webhook_master"),
    ("FLEET_KEYS", "FleetKeysSecret", "fleet_keys"),
    ("FLEET_KEY", "FleetKeysSecret", "fleet_keys"),
    ("REPORT_MASTERS", "ReportMastersSecret", "report_masters"),
];

/// The keys that a function's program reads.
fn read(function: &str) -> BTreeSet<&'static str> {
    let named = |keys: &'static [(&'static str, &'static str)]| keys.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let own = match function {
        "ApiFunction" => [named(rotoless_api::config::KEYS), named(wakers::KEYS)].concat(),
        "CallbackFunction" => named(rotoless_callback::config::KEYS),
        "DeliverFunction" => named(rotoless_deliver::config::KEYS),
        "SweepFunction" => [named(wakers::KEYS), named(wakers::WATCH_KEYS)].concat(),
        "WorkerFunction" => rotoless_gpu_handler::KEYS.iter().map(|key| key.name).collect(),
        other => panic!("{other}: whose keys does it read?"),
    };
    // The worker knows no table, and its work is counted by those to whom it reports.
    let is_worker = function == "WorkerFunction";
    let common = rotoless_aws::config::KEYS.iter().map(|key| key.name).chain(named(rotoless_telemetry::KEYS));
    own.into_iter().chain(common.filter(|_| !is_worker)).collect()
}

/// The variables of a function, the common ones included unless they are refused.
fn given<'a>(stack: &'a Stack, id: &str) -> Vec<(&'a str, &'a Value)> {
    let resource = &stack.main["Resources"][id];
    let refused = resource["IgnoreGlobals"] == json!(["Environment"]);
    let common = (!refused).then(|| &stack.main["Globals"]["Function"]);
    let variables = common.into_iter().chain([&resource["Properties"]]);
    let variables = variables.filter_map(|of| of["Environment"]["Variables"].as_object()).flatten();
    variables.map(|(name, value)| (name.as_str(), value)).collect()
}

fn every_key_that_is_read_is_given_and_the_other_way_round(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, _) in stack.functions() {
        let given: BTreeSet<&str> = given(stack, id).into_iter().map(|(name, _)| name).collect();
        let read = read(id);
        let left = |name: &&&str| BY_LAMBDA.contains(*name) || LEFT.iter().any(|(left, _)| left == *name);
        problems
            .extend(read.difference(&given).filter(|name| !left(name)).map(|name| format!("{id} is not given {name}")));
        problems.extend(given.difference(&read).map(|name| format!("{id} does not read {name}")));
        problems.extend(given.iter().filter(left).map(|name| format!("{id} is given {name}, which was to be left")));
    }
    problems
}

/// A secret is in no parameter, no output and no description: only where it is read, by reference.
fn secrets_are_referred_to_and_never_written(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, _) in stack.functions() {
        for (name, value) in given(stack, id) {
            let secret = SECRETS.iter().find(|(key, ..)| *key == name);
            let by_reference = secret.is_some_and(|(_, generated, key)| {
                let generated = json!({"Fn::Sub": format!("{{{{resolve:secretsmanager:${{{generated}}}}}}}")});
                let own =
                    json!({"Fn::Sub": format!("{{{{resolve:secretsmanager:${{SecretsFrom}}:SecretString:{key}}}}}")});
                *value == json!({"Fn::If": ["SecretsGenerated", generated, own]})
            });
            if let Some((_, part, condition)) = GIVEN.iter().find(|(key, ..)| *key == name) {
                let text = format!("{{{{resolve:secretsmanager:${{RunPodSecret}}:SecretString:{part}}}}}");
                if *value != json!({"Fn::If": [condition, {"Fn::Sub": text}, {"Ref": "AWS::NoValue"}]}) {
                    problems.push(format!("{id}: {name}"));
                }
                continue;
            }
            if by_reference != secret.is_some() || (secret.is_none() && value.to_string().contains("{{resolve:")) {
                problems.push(format!("{id}: {name}"));
            }
        }
        let description = stack.main["Resources"][id]["Properties"]["Description"].to_string();
        let is_secret = |name: &str| SECRETS.iter().chain(&GIVEN).any(|(key, ..)| *key == name);
        let holds_one = given(stack, id).iter().any(|(name, _)| is_secret(name));
        // What changes in the function makes CloudFormation look the secrets up again.
        if holds_one != description.contains("${SecretsRevision}") {
            problems.push(format!("{id} does not change with SecretsRevision"));
        }
    }
    let elsewhere = ["Parameters", "Outputs"].map(|part| section(&stack.main, part));
    for (name, value) in elsewhere.into_iter().flatten() {
        if value.to_string().contains("{{resolve:") {
            problems.push(format!("{name} shows a secret"));
        }
    }
    for (id, secret) in stack.of("AWS::SecretsManager::Secret") {
        let generated = &secret["Properties"]["GenerateSecretString"];
        // A comma would end a key of a list.
        let long = generated["PasswordLength"].as_u64().is_some_and(|length| length >= 40);
        if !long || generated["ExcludePunctuation"] != true || secret["Properties"].get("SecretString").is_some() {
            problems.push(format!("{id} is short, has punctuation or is written down"));
        }
    }
    problems
}

#[test]
fn programs_get_what_they_read() {
    hold(&[
        (
            "every key that is read is given, and the other way round",
            every_key_that_is_read_is_given_and_the_other_way_round,
            &[
                |stack| without(&mut stack.main, "/Globals/Function/Environment/Variables", "TABLE_USAGE"),
                |stack| {
                    without(&mut stack.main, "/Resources/WorkerFunction/Properties/Environment/Variables", "FLEET_KEY")
                },
                |stack| stack.at("ApiFunction", "/Environment/Variables")["LEGACY"] = json!("off"),
                |stack| without(&mut stack.main, "/Resources/WorkerFunction", "IgnoreGlobals"),
                |stack| {
                    stack.at("DeliverFunction", "/Environment/Variables")["ALLOW_EGRESS_DANGEROUS"] =
                        json!("10.0.0.0/8")
                },
            ],
        ),
        (
            "secrets are referred to and never written",
            secrets_are_referred_to_and_never_written,
            &[
                |stack| *stack.at("WorkerFunction", "/Environment/Variables/FLEET_KEY") = json!("0123456789abcdef"),
                |stack| {
                    *stack.at("ApiFunction", "/Environment/Variables/WEBHOOK_MASTER/Fn::If/1") =
                        json!({"Fn::Sub": "{{resolve:secretsmanager:${AdminTokenSecret}}}"})
                },
                |stack| {
                    *at(&mut stack.main, "/Outputs/ApiUrl/Value") =
                        json!({"Fn::Sub": "{{resolve:secretsmanager:${AdminTokenSecret}}}"})
                },
                |stack| *stack.at("SweepFunction", "/Environment/Variables/RUNPOD_STOP_KEY") = json!("rpa_0123456789"),
                |stack| {
                    *stack.at("ApiFunction", "/Environment/Variables/RUNPOD_API_KEY/Fn::If/0") = json!("FirstIsEcs")
                },
                |stack| *stack.at("FleetKeysSecret", "/GenerateSecretString/PasswordLength") = json!(8),
                |stack| *stack.at("ApiFunction", "/Description") = json!("What clients call"),
            ],
        ),
    ]);
}
