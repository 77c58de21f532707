//! `infra/kubernetes/worker.yaml`: one Job a message, the time it needs, nobody's privileges.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{LONGEST_ATTEMPT, Problems, SECONDS_TO_END, hold, must_be, read, unread, version};

const FILE: &str = "infra/kubernetes/worker.yaml";

fn documents(text: &str) -> Vec<Value> {
    let parse = |part: &str| serde_saphyr::from_str(part).unwrap_or_else(|err| panic!("{FILE}: {err}"));
    text.split("\n---\n").map(parse).collect()
}

/// The ScaledJob's specification.
fn scaled(text: &str) -> Value {
    documents(text).into_iter().find(|document| document["kind"] == "ScaledJob").unwrap_or_default()["spec"].take()
}

fn differing(spec: &Value, wanted: &[(&str, Value)]) -> Problems {
    let found = |path: &str| spec.pointer(path).unwrap_or(&Value::Null);
    let wrong = wanted.iter().filter(|(path, value)| found(path) != value);
    wrong.map(|(path, value)| format!("{path} is {}, not {value}", found(path))).collect()
}

/// The four belong together: one message a Job, those at work not counted, Jobs that start taken off.
fn one_job_a_message(text: &str) -> Problems {
    differing(
        &scaled(text),
        &[
            ("/minReplicaCount", json!(0)),
            ("/scalingStrategy/strategy", json!("accurate")),
            ("/rollout/strategy", json!("gradual")),
            ("/triggers/0/type", json!("aws-sqs-queue")),
            ("/triggers/0/metadata/queueLength", json!("1")),
            ("/triggers/0/metadata/scaleOnInFlight", json!("false")),
            ("/jobTargetRef/parallelism", json!(1)),
            ("/jobTargetRef/backoffLimit", json!(0)),
            ("/jobTargetRef/template/spec/restartPolicy", json!("Never")),
        ],
    )
}

fn time(text: &str) -> Problems {
    let spec = scaled(text);
    let least = [
        ("/jobTargetRef/template/spec/terminationGracePeriodSeconds", SECONDS_TO_END),
        ("/jobTargetRef/activeDeadlineSeconds", LONGEST_ATTEMPT + 900),
    ];
    let found = |path: &str| spec.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    least.iter().filter(|(path, least)| found(path) < *least).map(|(path, _)| format!("{path} is too short")).collect()
}

fn privileges(text: &str) -> Problems {
    let user: u64 = {
        let image = read("infra/docker/Dockerfile");
        let user = image.lines().find_map(|line| line.strip_prefix("USER ")).unwrap_or_default();
        user.split(':').next().and_then(|id| id.parse().ok()).unwrap_or_default()
    };
    differing(
        &scaled(text)["jobTargetRef"]["template"]["spec"],
        &[
            ("/automountServiceAccountToken", json!(false)),
            ("/securityContext/runAsNonRoot", json!(true)),
            ("/securityContext/runAsUser", json!(user)),
            ("/securityContext/fsGroup", json!(user)),
            ("/securityContext/seccompProfile/type", json!("RuntimeDefault")),
            ("/containers/0/securityContext/allowPrivilegeEscalation", json!(false)),
            ("/containers/0/securityContext/readOnlyRootFilesystem", json!(true)),
            ("/containers/0/securityContext/capabilities/drop", json!(["ALL"])),
            ("/containers/0/volumeMounts/0/mountPath", json!("/work")),
            ("/containers/0/livenessProbe/exec/command", json!(["gpu-handler", "--healthy"])),
            ("/containers/0/image", json!(format!("ghcr.io/OWNER/rotoless-worker:{}", version()))),
        ],
    )
}

fn settings(text: &str) -> Problems {
    let container = scaled(text)["jobTargetRef"]["template"]["spec"]["containers"][0].take();
    let given: BTreeMap<String, String> = container["env"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let value = entry["value"].as_str().unwrap_or_default();
            (entry["name"].as_str().unwrap_or_default().to_owned(), value.to_owned())
        })
        .collect();
    let mut problems = unread(given.keys().map(String::as_str));
    problems.extend(must_be(&given, "SESSIONS", "once"));
    // What KEDA is given of the worker's secret are keys of the worker as well.
    let secret = &container["envFrom"][0]["secretRef"]["name"];
    for document in documents(text).iter().filter(|document| document["kind"] == "TriggerAuthentication") {
        for reference in document["spec"]["secretTargetRef"].as_array().into_iter().flatten() {
            problems.extend(unread(reference["key"].as_str().into_iter()));
            if reference["name"] != *secret {
                problems.push(format!("{} is another secret than the worker's", reference["name"]));
            }
        }
    }
    problems
}

#[test]
fn keda_starts_one_worker_a_message_and_kills_none_at_work() {
    hold(
        FILE,
        &[
            (
                "one Job a message",
                one_job_a_message,
                &[
                    (r#"queueLength: "1""#, r#"queueLength: "5""#),
                    (r#"scaleOnInFlight: "false""#, r#"scaleOnInFlight: "true""#),
                    ("strategy: accurate", "strategy: default"),
                    ("backoffLimit: 0", "backoffLimit: 6"),
                    ("restartPolicy: Never", "restartPolicy: OnFailure"),
                    ("kind: ScaledJob", "kind: ScaledObject"),
                ],
            ),
            (
                "time to end, and for the longest attempt",
                time,
                &[
                    ("terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 30"),
                    ("activeDeadlineSeconds: 9000", "activeDeadlineSeconds: 7200"),
                ],
            ),
            (
                "the image's user, and no more than that",
                privileges,
                &[
                    ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
                    ("runAsUser: 10001", "runAsUser: 0"),
                    ("drop: [ALL]", "drop: [NET_RAW]"),
                    ("rotoless-worker:0", "rotoless-worker:latest # 0"),
                ],
            ),
            (
                "settings that the worker reads",
                settings,
                &[
                    ("value: once", "value: poll"),
                    ("name: WORKER_ID", "name: WORKERID"),
                    ("key: AWS_REGION", "key: REGION"),
                ],
            ),
        ],
    );
}
