//! Where the services are and what our things there are called.
//!
//! Owns: [`Settings`] and the names of the variables they come from ([`KEYS`]). Does not own: reading the
//! environment (each `main` passes a look-up), credentials on AWS (the SDK's default chain finds the role's).

use std::fmt;

use secrecy::SecretString;
use url::Url;

/// Everything needed to reach DynamoDB, S3 and SQS.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Other places than AWS's own: the embedded stack, or a local DynamoDB.
    pub endpoints: Option<Endpoints>,
    /// The region, `us-east-1` for instance. Part of every signature, on one machine too.
    pub region: String,
    /// A fixed pair of keys; none: the SDK's default chain.
    pub credentials: Option<StaticCredentials>,
    /// What our things are called.
    pub names: Names,
}

/// Places of the services other than AWS's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// DynamoDB.
    pub dynamodb: Url,
    /// SQS.
    pub sqs: Url,
    /// S3 as this process reaches it.
    pub s3: Url,
    /// S3 as clients and workers reach it: the host is part of a presigned link. None: the same.
    pub public_s3: Option<Url>,
}

/// A fixed pair of keys.
#[derive(Debug, Clone)]
pub struct StaticCredentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: SecretString,
}

/// What our tables, our bucket and our queue are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Table of API keys.
    pub keys: String,
    /// Table of balances and ledgers.
    pub accounts: String,
    /// Table of jobs and attempts.
    pub jobs: String,
    /// Table of idempotency records.
    pub idempotency: String,
    /// Table of webhook events.
    pub deliveries: String,
    /// Table of shared rate limits and workers' signs of life.
    pub limits: String,
    /// Table of usage.
    pub usage: String,
    /// Bucket of uploads and outputs.
    pub bucket: String,
    /// URL of the queue of work.
    pub jobs_queue_url: String,
}

impl Names {
    /// What `template.yaml` calls them in a stack. The bucket and the queue's URL carry the account's number.
    #[must_use]
    pub fn of_stack(stack: &str, bucket: String, jobs_queue_url: String) -> Self {
        let table = |name: &str| format!("{stack}-{name}");
        Self {
            keys: table("keys"),
            accounts: table("accounts"),
            jobs: table("jobs"),
            idempotency: table("idempotency"),
            deliveries: table("deliveries"),
            limits: table("limits"),
            usage: table("usage"),
            bucket,
            jobs_queue_url,
        }
    }
}

/// One variable of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whether there is no default.
    pub required: bool,
    /// What it means.
    pub doc: &'static str,
}

const fn required(name: &'static str, doc: &'static str) -> Key {
    Key { name, required: true, doc }
}

const fn optional(name: &'static str, doc: &'static str) -> Key {
    Key { name, required: false, doc }
}

/// Every variable that [`Settings::from_lookup`] asks for.
pub const KEYS: &[Key] = &[
    required("AWS_REGION", "Region of the tables, the bucket and the queue. Lambda sets it."),
    required("TABLE_KEYS", "DynamoDB table of API keys."),
    required("TABLE_ACCOUNTS", "DynamoDB table of balances and ledgers."),
    required("TABLE_JOBS", "DynamoDB table of jobs and attempts."),
    required("TABLE_IDEMPOTENCY", "DynamoDB table of idempotency records."),
    required("TABLE_DELIVERIES", "DynamoDB table of webhook events."),
    required("TABLE_LIMITS", "DynamoDB table of shared rate limits and workers' signs of life."),
    required("TABLE_USAGE", "DynamoDB table of clients' usage."),
    required("BUCKET", "S3 bucket of uploads and outputs."),
    required("JOBS_QUEUE_URL", "URL of the SQS queue of work."),
    optional("DYNAMODB_ENDPOINT", "DynamoDB elsewhere than on AWS; only together with the two below."),
    optional("SQS_ENDPOINT", "SQS elsewhere than on AWS."),
    optional("S3_ENDPOINT", "S3 elsewhere than on AWS, as this process reaches it."),
    optional("S3_PUBLIC_ENDPOINT", "S3 as clients and workers reach it; S3_ENDPOINT where absent."),
];

/// What is wrong with one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its name.
    pub key: &'static str,
    /// What is wrong. Never the value itself.
    pub reason: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl std::error::Error for Problem {}

impl Settings {
    /// Reads the settings of a Lambda function; an empty value counts as absent. Credentials are left to the SDK.
    ///
    /// # Errors
    /// Every [`Problem`] there is, not only the first.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let mut found = Found { lookup, problems: Vec::new() };
        let settings = Self {
            endpoints: found.endpoints(),
            region: found.text("AWS_REGION"),
            credentials: None,
            names: Names {
                keys: found.text("TABLE_KEYS"),
                accounts: found.text("TABLE_ACCOUNTS"),
                jobs: found.text("TABLE_JOBS"),
                idempotency: found.text("TABLE_IDEMPOTENCY"),
                deliveries: found.text("TABLE_DELIVERIES"),
                limits: found.text("TABLE_LIMITS"),
                usage: found.text("TABLE_USAGE"),
                bucket: found.text("BUCKET"),
                jobs_queue_url: found.queue_url("JOBS_QUEUE_URL"),
            },
        };
        if found.problems.is_empty() { Ok(settings) } else { Err(found.problems) }
    }
}

struct Found<L> {
    lookup: L,
    problems: Vec<Problem>,
}

impl<L: Fn(&str) -> Option<String>> Found<L> {
    fn value(&self, key: &str) -> Option<String> {
        (self.lookup)(key).filter(|value| !value.trim().is_empty())
    }

    fn problem(&mut self, key: &'static str, reason: &'static str) {
        self.problems.push(Problem { key, reason });
    }

    fn text(&mut self, key: &'static str) -> String {
        self.value(key).unwrap_or_else(|| {
            self.problem(key, "is not set");
            String::new()
        })
    }

    fn queue_url(&mut self, key: &'static str) -> String {
        let text = self.text(key);
        if !text.is_empty() && http_url(&text).is_none() {
            self.problem(key, "is not an http(s) URL");
        }
        text
    }

    fn url(&mut self, key: &'static str) -> Option<Url> {
        let text = self.value(key)?;
        let url = http_url(&text);
        if url.is_none() {
            self.problem(key, "is not an http(s) URL");
        }
        url
    }

    /// All of the three services elsewhere, or none: half a local stack would work on real data.
    fn endpoints(&mut self) -> Option<Endpoints> {
        const SERVICES: [&str; 3] = ["DYNAMODB_ENDPOINT", "SQS_ENDPOINT", "S3_ENDPOINT"];
        let public_s3 = self.url("S3_PUBLIC_ENDPOINT");
        let set = SERVICES.map(|key| self.value(key).is_some());
        if set != [true; 3] && (set != [false; 3] || public_s3.is_some()) {
            for key in SERVICES.into_iter().zip(set).filter_map(|(key, set)| (!set).then_some(key)) {
                self.problem(key, "is not set, though another endpoint is");
            }
            return None;
        }
        let [dynamodb, sqs, s3] = SERVICES.map(|key| self.url(key));
        Some(Endpoints { dynamodb: dynamodb?, sqs: sqs?, s3: s3?, public_s3 })
    }
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lambda(key: &str) -> Option<String> {
        let known = KEYS.iter().any(|k| k.name == key);
        assert!(known, "{key} is missing in KEYS");
        let required = KEYS.iter().any(|k| k.name == key && k.required);
        required.then(|| if key.ends_with("URL") { "https://sqs.example/1/q".to_owned() } else { key.to_lowercase() })
    }

    #[test]
    fn a_stacks_tables_are_named_as_the_template_names_them() {
        let template = include_str!("../../../template.yaml");
        let names = Names::of_stack("${AWS::StackName}", String::new(), String::new());
        let Names { keys, accounts, jobs, idempotency, deliveries, limits, usage, .. } = names;
        for name in [keys, accounts, jobs, idempotency, deliveries, limits, usage] {
            assert!(template.contains(&format!("TableName: {{ \"Fn::Sub\": \"{name}\" }}")), "{name}");
        }
    }

    #[test]
    fn a_lambda_with_exactly_the_required_variables_starts() {
        let settings = Settings::from_lookup(lambda).unwrap();
        assert_eq!(settings.names.jobs, "table_jobs");
        assert_eq!(settings.region, "aws_region");
        assert!(settings.endpoints.is_none() && settings.credentials.is_none());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let problems = Settings::from_lookup(|_| None).unwrap_err();
        let named: Vec<&str> = problems.iter().map(|problem| problem.key).collect();
        for key in KEYS {
            assert_eq!(named.contains(&key.name), key.required, "{}", key.name);
        }
        let problems =
            Settings::from_lookup(|key| if key == "JOBS_QUEUE_URL" { Some("q".to_owned()) } else { lambda(key) });
        assert_eq!(problems.unwrap_err(), [Problem { key: "JOBS_QUEUE_URL", reason: "is not an http(s) URL" }]);
    }

    #[test]
    fn half_a_local_stack_is_refused() {
        let with =
            |set: &'static [&'static str]| {
                Settings::from_lookup(move |key| {
                    if set.contains(&key) { Some("http://127.0.0.1:9".to_owned()) } else { lambda(key) }
                })
            };
        for half in [&["DYNAMODB_ENDPOINT"][..], &["S3_PUBLIC_ENDPOINT"], &["S3_ENDPOINT", "SQS_ENDPOINT"]] {
            assert!(with(half).is_err(), "{half:?}");
        }
        let whole = with(&["DYNAMODB_ENDPOINT", "SQS_ENDPOINT", "S3_ENDPOINT"]).unwrap().endpoints.unwrap();
        assert_eq!(whole.s3.as_str(), "http://127.0.0.1:9/");
        assert_eq!(whole.public_s3, None);
    }
}
