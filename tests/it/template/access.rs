//! Who may do what: each function what its ports need, and nobody anything to everything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::stack::{Stack, at, without};
use super::{Problems, hold, texts};

/// Actions on resources, such as `dynamodb:GetItem` on `JobsTable`.
pub(crate) type Rights = BTreeSet<(String, String)>;

/// A resource, and the actions on it.
type Need = (&'static str, &'static [&'static str]);

const GET: &str = "dynamodb:GetItem";
const PUT: &str = "dynamodb:PutItem";
const UPDATE: &str = "dynamodb:UpdateItem";
const QUERY: &str = "dynamodb:Query";

/// What each function's ports do (`crates/aws`): a transaction needs the right to each thing that it does, a put of an
/// item that carries a mark the right to read it, and an index that to query it.
const NEEDS: [(&str, &[Need]); 5] = [
    (
        "ApiFunction",
        &[
            ("KeysTable", &[GET, PUT, UPDATE, "dynamodb:Scan"]),
            ("AccountsTable", &[GET, PUT, UPDATE]),
            ("JobsTable", &[GET, PUT, UPDATE]),
            ("JobsTable/index/by-client", &[QUERY]),
            ("JobsTable/index/by-due", &[QUERY]),
            ("IdempotencyTable", &[GET, PUT]),
            ("DeliveriesTable", &[GET, PUT, QUERY]),
            ("LimitsTable", &[GET, UPDATE]),
            ("UsageTable", &[PUT, UPDATE, QUERY]),
            ("MediaBucket", &["s3:ListBucket"]),
            ("MediaBucket/*", &["s3:GetObject", "s3:DeleteObject"]),
            ("MediaBucket/uploads/*", &["s3:PutObject", "s3:AbortMultipartUpload"]),
            ("JobsQueue", &["sqs:SendMessage", "sqs:GetQueueAttributes"]),
        ],
    ),
    (
        "CallbackFunction",
        &[
            ("AccountsTable", &[GET, PUT, UPDATE]),
            ("JobsTable", &[GET, PUT, UPDATE]),
            ("DeliveriesTable", &[GET, PUT]),
            ("LimitsTable", &[UPDATE]),
            ("UsageTable", &[UPDATE]),
            ("MediaBucket", &["s3:ListBucket"]),
            ("MediaBucket/*", &["s3:GetObject"]),
            ("MediaBucket/outputs/*", &["s3:PutObject"]),
            ("MediaBucket/segments/*", &["s3:PutObject", "s3:DeleteObject"]),
        ],
    ),
    (
        "DeliverFunction",
        &[
            ("AccountsTable", &[GET]),
            ("JobsTable", &[GET, PUT]),
            ("DeliveriesTable", &[GET, PUT]),
            ("DeliveriesTable/index/by-due", &[QUERY]),
            ("MediaBucket/outputs/*", &["s3:GetObject"]),
        ],
    ),
    (
        "SweepFunction",
        &[
            ("AccountsTable", &[GET, PUT, UPDATE]),
            ("JobsTable", &[GET, PUT, UPDATE]),
            ("JobsTable/index/by-due", &[QUERY]),
            ("DeliveriesTable", &[GET, PUT]),
            ("UsageTable", &[UPDATE]),
            ("LimitsTable", &[GET, PUT, UPDATE]),
            ("MediaBucket", &["s3:ListBucket"]),
            ("MediaBucket/*", &["s3:GetObject", "s3:DeleteObject"]),
            ("JobsQueue", &["sqs:SendMessage", "sqs:GetQueueAttributes"]),
        ],
    ),
    (
        "WorkerFunction",
        &[(
            "JobsQueue",
            &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"],
        )],
    ),
];

/// Actions that know no resources, each with its reason.
const WITHOUT_RESOURCE: [(&str, &str); 2] =
    [("xray:PutTraceSegments", "X-Ray has no resources"), ("xray:PutTelemetryRecords", "X-Ray has no resources")];

/// The resource of a statement: `JobsTable`, `JobsTable/index/by-due`, `MediaBucket/uploads/*`, `*`.
fn resource(value: &Value) -> String {
    if let Some(parts) = value["Fn::GetAtt"].as_array() {
        assert_eq!(parts[1], "Arn", "{value}");
        return parts[0].as_str().unwrap().to_owned();
    }
    match value["Fn::Sub"].as_str().or(value.as_str()) {
        Some(text) => text.replace("${", "").replacen(".Arn}", "", 1),
        None => panic!("not a resource: {value}"),
    }
}

/// The statements of a role, those that stand under a condition included.
fn statements(role: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for policy in role["Policies"].as_array().into_iter().flatten() {
        for statement in policy["PolicyDocument"]["Statement"].as_array().unwrap() {
            match statement["Fn::If"].as_array() {
                Some(parts) => found.extend(parts[1..].iter().filter(|part| part.get("Effect").is_some())),
                None => found.push(statement),
            }
        }
    }
    found
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |list| list.iter().collect())
}

fn rights(role: &Value) -> Rights {
    let mut rights = Rights::new();
    for statement in statements(role) {
        for action in texts(&statement["Action"]) {
            for of in list(&statement["Resource"]) {
                rights.insert((action.to_owned(), resource(of)));
            }
        }
    }
    rights
}

/// What the template lets a function do.
pub(crate) fn rights_of(function: &str) -> Rights {
    let role = function.replace("Function", "Role");
    let stack = Stack::read();
    assert!(stack.main["Resources"].get(&role).is_some(), "no {role}");
    rights(&stack.main["Resources"][&role]["Properties"])
}

/// The role of a function: of its own, named after it.
fn role_of<'a>(stack: &'a Stack, id: &str, function: &Value) -> Option<&'a Value> {
    let name = function["Role"]["Fn::GetAtt"][0].as_str()?;
    let is_own = name == id.replace("Function", "Role");
    is_own.then(|| &stack.main["Resources"][name]["Properties"])
}

/// A role that SAM makes carries AWS's managed policies: every log group, and with a queue as its source every queue.
fn every_function_has_a_role_of_its_own_and_no_managed_policy(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, function) in stack.functions() {
        if role_of(stack, id, function).is_none() || function.get("Policies").is_some() {
            problems.push(format!("{id} has no role of its own"));
        }
    }
    for (id, role) in stack.of("AWS::IAM::Role") {
        let role = &role["Properties"];
        let trusted = &role["AssumeRolePolicyDocument"]["Statement"];
        let lambda =
            json!([{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]);
        if role.get("ManagedPolicyArns").is_some() || role.get("RoleName").is_some() || *trusted != lambda {
            problems.push(format!("{id}: managed policies, a name or another trust"));
        }
    }
    problems
}

fn nobody_may_do_anything_to_everything(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    for (id, role) in stack.of("AWS::IAM::Role") {
        for statement in statements(&role["Properties"]) {
            if statement["Effect"] != "Allow"
                || statement.get("NotAction").is_some()
                || statement.get("NotResource").is_some()
            {
                problems.push(format!("{id}: {statement}"));
            }
        }
        for (action, on) in rights(&role["Properties"]) {
            let reasoned = WITHOUT_RESOURCE.iter().any(|(without, _)| *without == action);
            let objects = on.starts_with("MediaBucket/") && on.matches('*').count() == 1 && on.ends_with("/*");
            if action.contains('*') || (on == "*") != reasoned || (on.contains('*') && !reasoned && !objects) {
                problems.push(format!("{id}: {action} on {on}"));
            }
        }
    }
    problems
}

fn every_function_may_do_what_its_ports_do_and_nothing_else(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let needs: BTreeMap<_, _> = NEEDS.into_iter().collect();
    for (id, function) in stack.functions() {
        let Some(role) = role_of(stack, id, function) else {
            problems.push(format!("{id}: no role"));
            continue;
        };
        let mut needed = Rights::new();
        for (on, actions) in *needs.get(id).unwrap_or(&[].as_slice()) {
            needed.extend(actions.iter().map(|action| ((*action).to_owned(), (*on).to_owned())));
        }
        let logs = id.replace("Function", "Logs");
        needed.extend(["logs:CreateLogStream", "logs:PutLogEvents"].map(|action| (action.to_owned(), logs.clone())));
        needed.extend(WITHOUT_RESOURCE.map(|(action, _)| (action.to_owned(), "*".to_owned())));
        let given = rights(role);
        problems.extend(needed.difference(&given).map(|(action, on)| format!("{id} lacks {action} on {on}")));
        problems.extend(given.difference(&needed).map(|(action, on)| format!("{id} does not need {action} on {on}")));
    }
    problems
}

/// Workers beyond AWS hold a key for as long as they live: it opens one queue.
fn a_key_that_leaves_aws_opens_one_queue_and_nothing_else(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let queue = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"];
    let needed: Rights = queue.map(|action| (action.to_owned(), "JobsQueue".to_owned())).into();
    let users = stack.of("AWS::IAM::User");
    if users.iter().map(|(id, _)| *id).collect::<Vec<_>>() != ["WorkerUser"]
        || !stack.of("AWS::IAM::AccessKey").is_empty()
    {
        problems.push("other users than the worker, or keys that the stack shows".to_owned());
    }
    for (id, user) in users {
        let allows = statements(&user["Properties"]).iter().all(|statement| statement["Effect"] == "Allow");
        let given = rights(&user["Properties"]);
        if given != needed || !allows || user["Properties"].get("ManagedPolicyArns").is_some() {
            problems.push(format!("{id} may do {given:?}"));
        }
    }
    problems
}

/// What strangers could reach refuses everybody who does not come over TLS.
fn what_has_a_policy_is_reached_by_tls_only(stack: &Stack) -> Problems {
    let mut problems = Problems::new();
    let mut covered = BTreeSet::new();
    for (id, policy) in stack.of("AWS::S3::BucketPolicy").into_iter().chain(stack.of("AWS::SQS::QueuePolicy")) {
        for statement in policy["Properties"]["PolicyDocument"]["Statement"].as_array().unwrap() {
            let denies = statement["Effect"] == "Deny"
                && statement["Principal"] == "*"
                && texts(&statement["Action"]).iter().all(|action| action.ends_with(":*"))
                && statement["Condition"] == json!({"Bool": {"aws:SecureTransport": "false"}});
            match denies {
                true => covered.extend(list(&statement["Resource"]).into_iter().map(resource)),
                false => problems.push(format!("{id}: {statement}")),
            }
        }
    }
    for (bucket, _) in stack.of("AWS::S3::Bucket") {
        let whole = [bucket.to_owned(), format!("{bucket}/*")];
        problems
            .extend(whole.into_iter().filter(|part| !covered.contains(part)).map(|part| format!("{part} without TLS")));
    }
    for (queue, _) in stack.of("AWS::SQS::Queue").into_iter().filter(|(queue, _)| !covered.contains(*queue)) {
        problems.push(format!("{queue} without TLS"));
    }
    problems
}

const STATEMENT: &str = "/Policies/0/PolicyDocument/Statement/2";

/// G-38, TA-8
#[test]
fn rights_are_what_the_ports_need() {
    hold(&[
        (
            "every function has a role of its own and no managed policy",
            every_function_has_a_role_of_its_own_and_no_managed_policy,
            &[
                |stack| without(&mut stack.main, "/Resources/WorkerFunction/Properties", "Role"),
                |stack| *stack.at("DeliverFunction", "/Role") = json!({"Fn::GetAtt": ["SweepRole", "Arn"]}),
                |stack| stack.at("ApiFunction", "")["Policies"] = json!(["AWSLambdaExecute"]),
                |stack| stack.at("ApiRole", "")["ManagedPolicyArns"] = json!(["AdministratorAccess"]),
                |stack| *stack.at("ApiRole", "/AssumeRolePolicyDocument/Statement/0/Principal") = json!("*"),
            ],
        ),
        (
            "nobody may do anything to everything",
            nobody_may_do_anything_to_everything,
            &[
                |stack| stack.at("ApiRole", STATEMENT)["Action"] = json!("dynamodb:*"),
                |stack| stack.at("ApiRole", STATEMENT)["Resource"] = json!("*"),
                |stack| stack.at("ApiRole", STATEMENT)["Resource"] = json!({"Fn::Sub": "${KeysTable.Arn}*"}),
                |stack| stack.at("ApiRole", STATEMENT)["NotResource"] = json!("x"),
            ],
        ),
        (
            "every function may do what its ports do and nothing else",
            every_function_may_do_what_its_ports_do_and_nothing_else,
            &[
                |stack| stack.at("ApiRole", STATEMENT)["Action"] = json!("dynamodb:GetItem"),
                |stack| {
                    stack.at("WorkerRole", STATEMENT)["Resource"] =
                        json!([{"Fn::GetAtt": ["JobsDeadLetterQueue", "Arn"]}])
                },
                |stack| {
                    stack.at("DeliverRole", STATEMENT)["Action"] = json!(["dynamodb:GetItem", "dynamodb:DeleteItem"])
                },
                |stack| {
                    stack.at("SweepRole", "/Policies/0/PolicyDocument/Statement/0")["Resource"] =
                        json!({"Fn::GetAtt": ["ApiLogs", "Arn"]})
                },
            ],
        ),
        (
            "a key that leaves AWS opens one queue and nothing else",
            a_key_that_leaves_aws_opens_one_queue_and_nothing_else,
            &[
                |stack| {
                    stack.at("WorkerUser", "/Policies/0/PolicyDocument/Statement/0")["Action"] =
                        json!(["sqs:SendMessage"])
                },
                |stack| stack.at("WorkerUser", "")["ManagedPolicyArns"] = json!(["AmazonSQSFullAccess"]),
                |stack| {
                    stack.main["Resources"]["Key"] =
                        json!({"Type": "AWS::IAM::AccessKey", "Properties": {"UserName": {"Ref": "WorkerUser"}}})
                },
            ],
        ),
        (
            "what has a policy is reached by TLS only",
            what_has_a_policy_is_reached_by_tls_only,
            &[
                |stack| without(&mut stack.main, "/Resources", "MediaBucketPolicy"),
                |stack| without(&mut stack.main, "/Resources", "QueuesPolicy"),
                |stack| {
                    stack.at("MediaBucketPolicy", "/PolicyDocument/Statement/0")["Resource"] =
                        json!({"Fn::GetAtt": ["MediaBucket", "Arn"]})
                },
                |stack| stack.at("MediaBucketPolicy", "/PolicyDocument/Statement/0")["Effect"] = json!("Allow"),
                |stack| {
                    *at(
                        &mut stack.main,
                        "/Resources/QueuesPolicy/Properties/PolicyDocument/Statement/0/Condition/Bool",
                    ) = json!({"aws:SecureTransport": "true"})
                },
            ],
        ),
    ]);
}
