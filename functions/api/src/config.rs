//! Configuration of the function, from the environment that the template gives it.

use std::fmt;

use rotoless_aws::wakers::WakeSettings;
use rotoless_aws::{Settings, config::Problem};
use rotoless_core::policy::{Policy, Pricing, Prompts};
use rotoless_core::rate::{PerMinute, Rates};
use rotoless_egress::Exception;
use secrecy::SecretString;
use url::Url;

use crate::state::LegacyApi;

/// Environment names this function reads beside those of `rotoless-aws` (its settings, and how wakes are posted).
pub const KEYS: &[(&str, &str)] = &[
    ("PUBLIC_BASE_URL", "URL of the service as clients reach it; without it the name that a request used"),
    ("WEBHOOK_MASTER", "secret that clients' webhook secrets are derived from"),
    ("ADMIN_TOKEN", "opens /v1/admin/*; those routes do not exist without it"),
    ("LEGACY_API", "who may use /api/upload, /api/process and /api/status: off, keyed (default) or open"),
    ("READS_PER_MINUTE", "GET requests a minute and key, all of them at once if need be; default 1200"),
    ("CREATES_PER_MINUTE", "other requests a minute and key; default 300"),
    ("MAX_OPEN_JOBS", "jobs of one client that wait or are at work at once; default 1000"),
    ("TEXT_PROMPTS", "what the workers' model `pro` understands: coco (default), its 80 nouns, or any words"),
    ("PRICING", "price list as JSON (docs/API.md); the published one without it"),
    ("ALLOW_EGRESS_DANGEROUS", "HOST:PORT, separated by commas: not public, and allowed in clients' URLs all the same"),
];

/// Least length of a secret that an operator chose, in characters.
const MIN_SECRET: usize = 16;

/// What the function is started with.
#[derive(Debug)]
pub struct Config {
    /// Where DynamoDB, S3 and SQS are.
    pub aws: Settings,
    /// Where workers are woken.
    pub wakes: WakeSettings,
    /// URL of the service as clients reach it, without a slash at the end; none: the name that a request used.
    pub public_base: Option<String>,
    /// Clients' webhook secrets are derived from it.
    pub webhook_master: SecretString,
    /// Opens `/v1/admin/*`.
    pub admin_token: Option<SecretString>,
    /// Who may use the legacy routes.
    pub legacy: LegacyApi,
    /// Requests a minute and key.
    pub rates: Rates,
    /// Jobs of one client under way at once.
    pub max_open_jobs: u32,
    /// The price list.
    pub pricing: Pricing,
    /// What prompts may say.
    pub prompts: Prompts,
    /// Where clients' URLs may lead although it is not public: the same exceptions as those of `deliver`.
    pub allow_egress_dangerous: Vec<Exception>,
}

/// Everything that is wrong with the configuration, never a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid(pub Vec<Problem>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "invalid configuration: {}", problems.join("; "))
    }
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// All that is missing or wrong.
    #[expect(clippy::disallowed_methods, reason = "the one place where this program reads its environment")]
    pub fn from_env() -> Result<Self, Invalid> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads from anything that knows names; an empty value counts as absent.
    ///
    /// # Errors
    /// All that is missing or wrong.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        let value = |name: &str| lookup(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let mut problems = Vec::new();
        let mut secret = |key: &'static str| {
            let text = value(key)?;
            if text.len() < MIN_SECRET {
                problems.push(Problem { key, reason: "is shorter than 16 characters" });
            }
            Some(SecretString::from(text))
        };
        let (webhook_master, admin_token) = (secret("WEBHOOK_MASTER"), secret("ADMIN_TOKEN"));
        let public_base = value("PUBLIC_BASE_URL").map(|text| base_url(&text));
        if webhook_master.is_none() {
            problems.push(Problem { key: "WEBHOOK_MASTER", reason: "is not set" });
        }
        if public_base == Some(None) {
            problems.push(Problem { key: "PUBLIC_BASE_URL", reason: "is not an http(s) URL" });
        }
        let legacy = value("LEGACY_API").map_or(Ok(LegacyApi::default()), |text| text.parse()).unwrap_or_else(|_| {
            problems.push(Problem { key: "LEGACY_API", reason: "is not off, keyed or open" });
            LegacyApi::default()
        });
        let mut rate = |key: &'static str, default: PerMinute| match value(key).map(|text| text.parse()) {
            None => default,
            Some(Ok(tokens @ 1..)) => PerMinute::new(tokens),
            Some(Ok(0) | Err(_)) => {
                problems.push(Problem { key, reason: "is not a number of requests a minute, 1 or more" });
                default
            }
        };
        let rates = Rates {
            reads: rate("READS_PER_MINUTE", Rates::default().reads),
            creates: rate("CREATES_PER_MINUTE", Rates::default().creates),
        };
        let max_open_jobs = match value("MAX_OPEN_JOBS").map(|text| text.parse()) {
            None => Policy::default().max_open_jobs,
            Some(Ok(most @ 1..)) => most,
            Some(Ok(0) | Err(_)) => {
                problems.push(Problem { key: "MAX_OPEN_JOBS", reason: "is not a number of jobs, 1 or more" });
                Policy::default().max_open_jobs
            }
        };
        let pricing = value("PRICING").map_or(Ok(Pricing::default()), |json| Pricing::from_json(&json));
        let pricing = pricing.unwrap_or_else(|_| {
            problems.push(Problem { key: "PRICING", reason: "is not a price list" });
            Pricing::default()
        });
        let prompts = value("TEXT_PROMPTS").map_or(Ok(Prompts::default()), |text| text.parse()).unwrap_or_else(|_| {
            problems.push(Problem { key: "TEXT_PROMPTS", reason: "is not coco or any" });
            Prompts::default()
        });
        let exceptions = value("ALLOW_EGRESS_DANGEROUS").unwrap_or_default();
        let exceptions = exceptions.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse);
        let allow_egress_dangerous = exceptions.collect::<Result<Vec<_>, _>>().unwrap_or_else(|_| {
            problems.push(Problem { key: "ALLOW_EGRESS_DANGEROUS", reason: "is not a list of HOST:PORT" });
            Vec::new()
        });
        let aws = Settings::from_lookup(&lookup).map_err(|found| problems.extend(found)).ok();
        let wakes = WakeSettings::from_lookup(&lookup).map_err(|found| problems.extend(found)).ok();
        match (aws, wakes, webhook_master) {
            (Some(aws), Some(wakes), Some(webhook_master)) if problems.is_empty() => Ok(Self {
                aws,
                wakes,
                public_base: public_base.flatten(),
                webhook_master,
                admin_token,
                legacy,
                rates,
                max_open_jobs,
                pricing,
                prompts,
                allow_egress_dangerous,
            }),
            _ => Err(Invalid(problems)),
        }
    }
}

fn base_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        let text = match name {
            "PUBLIC_BASE_URL" => "https://api.example.com/",
            "WEBHOOK_MASTER" => "0123456789abcdef",
            "ADMIN_TOKEN"
            | "LEGACY_API"
            | "READS_PER_MINUTE"
            | "CREATES_PER_MINUTE"
            | "MAX_OPEN_JOBS"
            | "TEXT_PROMPTS"
            | "PRICING"
            | "ALLOW_EGRESS_DANGEROUS" => {
                return None;
            }
            "JOBS_QUEUE_URL" => "https://sqs.us-east-1.amazonaws.com/1/jobs",
            _ if name.ends_with("ENDPOINT") || name.starts_with("WAKER") || name == "WORKERS_MAX" => return None,
            _ => "x",
        };
        Some(text.to_owned())
    }

    #[test]
    fn what_the_template_gives_is_enough() {
        let config = Config::from_lookup(environment).unwrap();
        assert_eq!(config.public_base.as_deref(), Some("https://api.example.com"));
        assert!(config.admin_token.is_none());
        let nameless = |name: &str| if name == "PUBLIC_BASE_URL" { None } else { environment(name) };
        assert_eq!(Config::from_lookup(nameless).unwrap().public_base, None);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_without_values() {
        let wrong = |name: &str| match name {
            "ADMIN_TOKEN" => Some("short".to_owned()),
            "PUBLIC_BASE_URL" => Some("ftp://secret".to_owned()),
            "LEGACY_API" | "READS_PER_MINUTE" | "CREATES_PER_MINUTE" | "MAX_OPEN_JOBS" | "TEXT_PROMPTS" | "PRICING" => {
                Some("many".to_owned())
            }
            "ALLOW_EGRESS_DANGEROUS" => Some("http://127.0.0.1".to_owned()),
            _ => None,
        };
        let Invalid(problems) = Config::from_lookup(wrong).unwrap_err();
        for (key, _) in KEYS.iter().chain(&[("JOBS_QUEUE_URL", "")]) {
            assert!(problems.iter().any(|problem| problem.key == *key), "{key}");
        }
        let text = Invalid(problems).to_string();
        assert!(!text.contains("short\"") && !text.contains("secret;"), "{text}");
    }
}
