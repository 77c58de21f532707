//! Which waker a program uses, from its environment.
//!
//! Owns: the keys, and that what one home needs is there when that home is asked for. Does not own: how each home is
//! woken. Invariant: nothing is chosen in silence: without `WAKER` workers are taken to poll, and a half-named home is
//! an error at the start.

use std::fmt;

use secrecy::SecretString;
use url::Url;

use crate::config::Problem;
use crate::runpod::{API_URL, BaseUrl, EndpointId, REST_URL};

/// What posting wakes takes: the function that accepts jobs reads these, and the sweep as well.
pub const KEYS: &[(&str, &str)] = &[
    ("WAKER", "where workers are woken: none (default; they poll), runpod or ecs"),
    ("WORKERS_MAX", "workers at once; default 3"),
    ("RUNPOD_ENDPOINT_ID", "runpod: the endpoint"),
    ("RUNPOD_API_KEY", "runpod: a key that may use it"),
    ("RUNPOD_API_URL", "runpod: its endpoints' API; https://api.runpod.ai"),
    ("ECS_CLUSTER", "ecs: name or ARN of the cluster"),
    ("ECS_TASK_DEFINITION", "ecs: ARN of the task definition"),
    ("ECS_CAPACITY_PROVIDER", "ecs: name of the capacity provider; the cluster's default strategy without it"),
    ("ECS_SUBNETS", "ecs: subnets of the tasks, by commas; none for tasks that use their host's network"),
    ("ECS_SECURITY_GROUPS", "ecs: security groups of the tasks, by commas"),
    ("ECS_ENDPOINT", "ecs: its API elsewhere than on AWS"),
];

/// What watching them takes besides: the sweep alone.
pub const WATCH_KEYS: &[(&str, &str)] = &[
    ("WAKER_SECOND", "where workers are woken when WAKER's home starts none for minutes: none, runpod or ecs"),
    ("RUNPOD_REST_URL", "runpod: its management API; https://rest.runpod.io"),
    ("RUNPOD_STOP_KEY", "runpod: a key that may change the endpoint; with it, workers without work are forbidden"),
];

const WORKERS_MAX: u32 = 3;

/// Where workers are woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// They poll.
    None,
    /// RunPod.
    RunPod,
    /// ECS.
    Ecs,
}

impl std::str::FromStr for Home {
    type Err = UnknownHome;

    fn from_str(text: &str) -> Result<Self, UnknownHome> {
        match text {
            "none" => Ok(Self::None),
            "runpod" => Ok(Self::RunPod),
            "ecs" => Ok(Self::Ecs),
            _ => Err(UnknownHome),
        }
    }
}

/// No home of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not none, runpod or ecs")]
pub struct UnknownHome;

/// A RunPod endpoint.
#[derive(Debug, Clone)]
pub struct RunPodSettings {
    /// Its id.
    pub endpoint_id: EndpointId,
    /// A key that may use it.
    pub api_key: SecretString,
    /// The endpoints' API.
    pub api_url: BaseUrl,
    /// The management API.
    pub rest_url: BaseUrl,
    /// A key that may change the endpoint.
    pub stop_key: Option<SecretString>,
}

/// Tasks of ECS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsSettings {
    /// Name or ARN of the cluster.
    pub cluster: String,
    /// ARN of the task definition.
    pub task_definition: String,
    /// The capacity provider; without it the cluster's default strategy.
    pub capacity_provider: Option<String>,
    /// Subnets of the tasks' own network, if they have one.
    pub subnets: Vec<String>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// ECS elsewhere than on AWS.
    pub endpoint: Option<Url>,
}

/// One home with what it takes to wake workers there.
#[derive(Debug, Clone)]
pub enum WakerSettings {
    /// They poll.
    None,
    /// RunPod.
    RunPod(RunPodSettings),
    /// ECS.
    Ecs(EcsSettings),
}

impl WakerSettings {
    /// Its name.
    #[must_use]
    pub const fn home(&self) -> Home {
        match self {
            Self::None => Home::None,
            Self::RunPod(_) => Home::RunPod,
            Self::Ecs(_) => Home::Ecs,
        }
    }
}

/// Where workers are woken, and how many there may be.
#[derive(Debug, Clone)]
pub struct WakeSettings {
    /// The home that is asked for each job.
    pub first: WakerSettings,
    /// The one that is asked when the first starts nobody.
    pub second: WakerSettings,
    /// Workers at once.
    pub workers_max: u32,
}

impl WakeSettings {
    /// Reads [`KEYS`] and [`WATCH_KEYS`]; an empty value counts as absent. A program that only posts wakes is given
    /// none of the latter.
    ///
    /// # Errors
    /// Every [`Problem`] there is.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let mut read = Read { lookup, problems: Vec::new() };
        let (first, second) = (read.home("WAKER"), read.home("WAKER_SECOND"));
        if second != Home::None && (first == Home::None || first == second) {
            read.problem("WAKER_SECOND", "is for another home than WAKER's");
        }
        let workers_max = match read.value("WORKERS_MAX").map(|text| text.parse()) {
            None => WORKERS_MAX,
            Some(Ok(most @ 1..=1000)) => most,
            Some(Ok(_) | Err(_)) => {
                read.problem("WORKERS_MAX", "is not a number of workers, 1 to 1000");
                WORKERS_MAX
            }
        };
        let settings = Self { first: read.waker(first), second: read.waker(second), workers_max };
        if read.problems.is_empty() { Ok(settings) } else { Err(read.problems) }
    }
}

struct Read<L> {
    lookup: L,
    problems: Vec<Problem>,
}

impl<L: Fn(&str) -> Option<String>> Read<L> {
    fn value(&self, key: &str) -> Option<String> {
        (self.lookup)(key).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn problem(&mut self, key: &'static str, reason: &'static str) {
        self.problems.push(Problem { key, reason });
    }

    fn home(&mut self, key: &'static str) -> Home {
        let home = self.value(key).map_or(Ok(Home::None), |text| text.parse());
        home.unwrap_or_else(|UnknownHome| {
            self.problem(key, "is not none, runpod or ecs");
            Home::None
        })
    }

    fn needed(&mut self, key: &'static str) -> String {
        self.value(key).unwrap_or_else(|| {
            self.problem(key, "is not set, though workers are woken there");
            String::new()
        })
    }

    /// https, or plain http to this very machine.
    fn url(&mut self, key: &'static str, default: Option<&'static str>) -> Option<BaseUrl> {
        let text = self.value(key).or_else(|| default.map(str::to_owned))?;
        let url = text.parse().ok();
        if url.is_none() {
            self.problem(key, "is not an https URL without a query");
        }
        url
    }

    fn waker(&mut self, home: Home) -> WakerSettings {
        match home {
            Home::None => WakerSettings::None,
            Home::RunPod => self.runpod().map_or(WakerSettings::None, WakerSettings::RunPod),
            Home::Ecs => {
                let list = |text: Option<String>| {
                    let text = text.unwrap_or_default();
                    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
                };
                WakerSettings::Ecs(EcsSettings {
                    cluster: self.needed("ECS_CLUSTER"),
                    task_definition: self.needed("ECS_TASK_DEFINITION"),
                    capacity_provider: self.value("ECS_CAPACITY_PROVIDER"),
                    subnets: list(self.value("ECS_SUBNETS")),
                    security_groups: list(self.value("ECS_SECURITY_GROUPS")),
                    endpoint: self.url("ECS_ENDPOINT", None).map(|url| url.as_url().clone()),
                })
            }
        }
    }

    fn runpod(&mut self) -> Option<RunPodSettings> {
        let (endpoint_id, api_key) = (self.needed("RUNPOD_ENDPOINT_ID"), self.needed("RUNPOD_API_KEY"));
        let is_given = !endpoint_id.is_empty();
        let endpoint_id = EndpointId::parse(&endpoint_id);
        if is_given && endpoint_id.is_none() {
            self.problem("RUNPOD_ENDPOINT_ID", "is no endpoint's id");
        }
        let (api_url, rest_url) =
            (self.url("RUNPOD_API_URL", Some(API_URL)), self.url("RUNPOD_REST_URL", Some(REST_URL)));
        let stop_key = self.value("RUNPOD_STOP_KEY").map(SecretString::from);
        Some(RunPodSettings {
            endpoint_id: endpoint_id?,
            api_key: api_key.into(),
            api_url: api_url?,
            rest_url: rest_url?,
            stop_key,
        })
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::RunPod => "runpod",
            Self::Ecs => "ecs",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<WakeSettings, Vec<&'static str>> {
        let lookup = |key: &str| {
            let known = KEYS.iter().chain(WATCH_KEYS).any(|(name, _)| *name == key);
            assert!(known, "{key} is in no list of keys");
            set.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        };
        WakeSettings::from_lookup(lookup).map_err(|problems| problems.into_iter().map(|problem| problem.key).collect())
    }

    const RUNPOD: [(&str, &str); 3] =
        [("WAKER", "runpod"), ("RUNPOD_ENDPOINT_ID", "abc123"), ("RUNPOD_API_KEY", "rpa_secret")];

    #[test]
    fn without_a_word_workers_poll() {
        let settings = read(&[("WAKER", ""), ("WORKERS_MAX", " 7 ")]).unwrap();
        assert_eq!((settings.first.home(), settings.second.home()), (Home::None, Home::None));
        assert_eq!(settings.workers_max, 7);
        assert_eq!(read(&[]).unwrap().workers_max, 3);
    }

    #[test]
    fn a_home_that_is_half_named_is_an_error_with_all_that_is_missing() {
        assert_eq!(read(&[("WAKER", "runpod")]).unwrap_err(), ["RUNPOD_ENDPOINT_ID", "RUNPOD_API_KEY"]);
        assert_eq!(read(&[("WAKER", "ecs")]).unwrap_err(), ["ECS_CLUSTER", "ECS_TASK_DEFINITION"]);
        assert_eq!(read(&[("WAKER", "fly"), ("WORKERS_MAX", "0")]).unwrap_err(), ["WAKER", "WORKERS_MAX"]);
        let second = |second| read(&[&RUNPOD[..], &[("WAKER_SECOND", second)]].concat());
        assert_eq!(second("runpod").unwrap_err(), ["WAKER_SECOND"]);
        assert_eq!(second("ecs").unwrap_err(), ["ECS_CLUSTER", "ECS_TASK_DEFINITION"]);
        assert_eq!(read(&[("WAKER_SECOND", "ecs")]).unwrap_err()[0], "WAKER_SECOND");
    }

    #[test]
    fn a_key_goes_over_tls_or_stays_on_this_machine_and_is_never_shown() {
        for (url, is_fine) in [
            ("https://api.example/x", true),
            ("http://127.0.0.1:9", true),
            ("http://localhost:9", true),
            ("http://[::1]:9", true),
            ("http://127.0.0.1.example", false),
            ("http://10.0.0.1", false),
            ("ftp://127.0.0.1", false),
            ("runpod", false),
        ] {
            let settings = read(&[&RUNPOD[..], &[("RUNPOD_API_URL", url)]].concat());
            assert_eq!(settings.is_ok(), is_fine, "{url}");
        }
        assert!(!format!("{:?}", read(&RUNPOD).unwrap()).contains("rpa_secret"));
        let odd = read(&[RUNPOD[0], ("RUNPOD_ENDPOINT_ID", "../v2/x"), RUNPOD[2]]);
        assert_eq!(odd.unwrap_err(), ["RUNPOD_ENDPOINT_ID"]);
    }
}
