//! Where RunPod is, which endpoint is ours, and with which keys it is asked.

use secrecy::SecretString;

use super::endpoint::{Endpoint, EndpointId};
use super::exchange::BaseUrl;
use super::management::Management;
use crate::config::{Key, Problem};

const API_URL: &str = "https://api.runpod.ai";
const REST_URL: &str = "https://rest.runpod.io";

/// Every variable that [`RunPodSettings::from_lookup`] asks for.
pub const KEYS: &[Key] = &[
    Key { name: "RUNPOD_ENDPOINT_ID", required: true, doc: "Id of the RunPod endpoint whose workers are woken." },
    Key {
        name: "RUNPOD_API_KEY",
        required: true,
        doc: "RunPod key that may call this endpoint and, for the check of its greatest number of workers, read it.",
    },
    Key { name: "RUNPOD_API_URL", required: false, doc: "Public API of endpoints; https://api.runpod.ai where absent." },
    Key { name: "RUNPOD_REST_URL", required: false, doc: "Management API; https://rest.runpod.io where absent." },
    Key {
        name: "RUNPOD_STOP_KEY",
        required: false,
        doc: "Another RunPod key, that may change the endpoint: the kill switch. Without it there is none.",
    },
];

/// Everything needed to wake workers on RunPod.
#[derive(Debug, Clone)]
pub struct RunPodSettings {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Calls and reads the endpoint.
    pub api_key: SecretString,
    /// Public API of endpoints.
    pub api_url: BaseUrl,
    /// Management API.
    pub rest_url: BaseUrl,
    /// May set the endpoint's greatest number of workers to 0; none: there is no kill switch.
    pub stop_key: Option<SecretString>,
}

impl RunPodSettings {
    /// Reads the settings; an empty value counts as absent.
    ///
    /// # Errors
    /// Every [`Problem`] there is, not only the first. None holds a value.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let value = |key: &str| lookup(key).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let endpoint_id = value("RUNPOD_ENDPOINT_ID");
        if endpoint_id.is_none() {
            problems.push(Problem { key: "RUNPOD_ENDPOINT_ID", reason: "is not set" });
        }
        let is_given = endpoint_id.is_some();
        let endpoint_id = endpoint_id.as_deref().and_then(EndpointId::parse);
        if is_given && endpoint_id.is_none() {
            problems.push(Problem { key: "RUNPOD_ENDPOINT_ID", reason: "is not the id of an endpoint" });
        }
        let api_key = value("RUNPOD_API_KEY").map(SecretString::from);
        if api_key.is_none() {
            problems.push(Problem { key: "RUNPOD_API_KEY", reason: "is not set" });
        }
        let mut url = |key: &'static str, default: &str| {
            let url = value(key).as_deref().unwrap_or(default).parse::<BaseUrl>();
            if url.is_err() {
                problems.push(Problem { key, reason: "is not an https URL without a query (http: this machine only)" });
            }
            url.ok()
        };
        let (api_url, rest_url) = (url("RUNPOD_API_URL", API_URL), url("RUNPOD_REST_URL", REST_URL));
        let stop_key = value("RUNPOD_STOP_KEY").map(SecretString::from);
        match (endpoint_id, api_key, api_url, rest_url) {
            (Some(endpoint_id), Some(api_key), Some(api_url), Some(rest_url)) if problems.is_empty() => {
                Ok(Self { endpoint_id, api_key, api_url, rest_url, stop_key })
            }
            _ => Err(problems),
        }
    }

    /// The endpoint as a caller sees it.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.api_url.clone(), self.endpoint_id.clone(), self.api_key.clone())
    }

    /// The management API with the key of a caller, which may read at most.
    #[must_use]
    pub fn management(&self) -> Management {
        Management::new(self.rest_url.clone(), self.api_key.clone())
    }

    /// The management API with the key of the kill switch, where there is one.
    #[must_use]
    pub fn kill_switch(&self) -> Option<Management> {
        self.stop_key.clone().map(|key| Management::new(self.rest_url.clone(), key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&'static str, &'static str)]) -> Result<RunPodSettings, Vec<Problem>> {
        let set: std::collections::BTreeMap<_, _> = set.iter().copied().collect();
        RunPodSettings::from_lookup(move |key| {
            assert!(KEYS.iter().any(|known| known.name == key), "{key} is missing in KEYS");
            set.get(key).map(|value| (*value).to_owned())
        })
    }

    #[test]
    fn an_endpoint_and_a_key_are_all_that_is_needed() {
        let settings = with(&[("RUNPOD_ENDPOINT_ID", "abc"), ("RUNPOD_API_KEY", "rpa_1"), ("RUNPOD_STOP_KEY", "")]);
        let settings = settings.unwrap();
        assert_eq!(format!("{:?} {:?}", settings.api_url, settings.rest_url), format!("{API_URL} {REST_URL}"));
        assert!(settings.stop_key.is_none() && settings.kill_switch().is_none());
        assert!(!format!("{settings:?} {:?} {:?}", settings.endpoint(), settings.management()).contains("rpa_1"));
    }

    #[test]
    fn every_problem_is_named_at_once_and_none_shows_a_value() {
        let problems = with(&[
            ("RUNPOD_ENDPOINT_ID", "secret/../x"),
            ("RUNPOD_API_URL", "http://secret.example"),
            ("RUNPOD_REST_URL", "secret"),
        ])
        .unwrap_err();
        let named: Vec<_> = problems.iter().map(|problem| problem.key).collect();
        assert_eq!(named, ["RUNPOD_ENDPOINT_ID", "RUNPOD_API_KEY", "RUNPOD_API_URL", "RUNPOD_REST_URL"]);
        assert!(!format!("{problems:?}").contains("secret"));
        assert_eq!(with(&[]).unwrap_err().len(), 2);
    }
}
