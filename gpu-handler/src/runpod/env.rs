//! The environment that RunPod gives a worker, read once.
//!
//! Owns: the addresses, with their placeholders and query parameters, and which of them may be opened.
//! Invariant: no address is ever shown: their queries name and authorise the worker.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use crate::config::Reader;
use crate::net::PlainHttp;

/// Of the heartbeat: whatever the interval says, no two pings within this.
const LEAST_PING_INTERVAL: Duration = Duration::from_secs(1);

/// The version of the Python worker whose protocol this is. RunPod is told it with every ping.
pub(super) const PROTOCOL: &str = "1.12.0";

/// Where a worker of RunPod gets its jobs and says what came of them.
#[derive(Clone)]
pub struct RunPod {
    /// Without the parameter that says whether a job is in progress.
    take: String,
    stop: Option<Url>,
    /// With `$ID` for the job.
    done: String,
    ping: Option<Url>,
    pub(super) ping_interval: Duration,
    /// The whole value of `Authorization`.
    pub(super) key: Option<SecretString>,
    worker: String,
}

impl fmt::Debug for RunPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, ping, ping_interval, .. } = self;
        let pings = ping.as_ref().map(|_| ping_interval);
        f.debug_struct("RunPod").field("worker", worker).field("pings", &pings).finish_non_exhaustive()
    }
}

impl RunPod {
    /// `None` without an address to take jobs from; problems are noted all the same.
    pub(crate) fn read(read: &mut Reader<'_>) -> Option<Self> {
        let worker = read.optional("RUNPOD_POD_ID");
        let key = read.optional("RUNPOD_AI_API_KEY").map(SecretString::from);
        let interval = read.parsed("RUNPOD_PING_INTERVAL").map(Duration::from_millis);
        // A worker without a name has nobody to ping for, as the Python worker sees it.
        let pings = worker.is_some() && key.is_some();
        let worker = worker.unwrap_or_else(made_up_name);
        let name = encoded(&worker);
        let take = read.optional("RUNPOD_WEBHOOK_GET_JOB")?.replace("$ID", &name);
        let done = read.required("RUNPOD_WEBHOOK_POST_OUTPUT").map(|done| done.replace("$RUNPOD_POD_ID", &name));
        let ping = read.optional("RUNPOD_WEBHOOK_PING").map(|ping| ping.replace("$RUNPOD_POD_ID", &name));
        admit(read, "RUNPOD_WEBHOOK_GET_JOB", &take)?;
        let done = done.filter(|done| admit(read, "RUNPOD_WEBHOOK_POST_OUTPUT", &done.replace("$ID", "job")).is_some());
        let ping = ping.and_then(|ping| admit(read, "RUNPOD_WEBHOOK_PING", &ping)).filter(|_| pings);
        let stop = take.contains("/job-take/").then(|| take.replace("/job-take/", "/job-stop/"));
        let stop = stop.and_then(|stop| PlainHttp::LoopbackOnly.admit(&stop).ok());
        let ping_interval = interval?.max(LEAST_PING_INTERVAL);
        Some(Self { take, stop, done: done?, ping, ping_interval, key, worker })
    }

    pub(super) const fn has_pings(&self) -> bool {
        self.ping.is_some()
    }

    /// Where a job is taken.
    pub(super) fn take(&self, is_busy: bool) -> Option<Url> {
        with_parameter(&self.take, "job_in_progress", if is_busy { "1" } else { "0" })
    }

    /// Where RunPod says which jobs are to be stopped; none where that cannot be derived.
    pub(super) fn stop(&self) -> Option<Url> {
        self.stop.clone()
    }

    /// Where the result of a job goes.
    pub(super) fn done(&self, job: &str) -> Option<Url> {
        with_parameter(&self.done.replace("$ID", &encoded(job)), "isStream", "false")
    }

    /// A sign of life with the jobs in progress; none where nobody wants any.
    pub(super) fn ping(&self, jobs: &[String]) -> Option<Url> {
        let mut url = self.ping.clone()?;
        let mut query = url.query_pairs_mut();
        if !jobs.is_empty() {
            query.append_pair("job_id", &jobs.join(","));
        }
        query.append_pair("runpod_version", PROTOCOL);
        drop(query);
        Some(url)
    }

    /// The last sign of a worker that is not fit: what it lacks, and why.
    pub(super) fn unhealthy(&self, check: &str, reason: &str) -> Option<Url> {
        let mut url = self.ping.clone()?;
        let reason: String = reason.chars().take(256).collect();
        url.query_pairs_mut()
            .append_pair("status", "unhealthy")
            .append_pair("check", check)
            .append_pair("reason", &reason)
            .append_pair("runpod_version", PROTOCOL);
        Some(url)
    }
}

fn admit(read: &mut Reader<'_>, name: &str, address: &str) -> Option<Url> {
    // Over loopback nobody listens: an own switch as for the control plane would keep nothing safe.
    let admitted = PlainHttp::LoopbackOnly.admit(address);
    admitted.map_err(|error| read.problem(name, &format!("cannot be used: {error}"))).ok()
}

/// The addresses have a query already; the published worker relies on it.
fn with_parameter(address: &str, name: &str, value: &str) -> Option<Url> {
    let joint = if address.contains('?') { '&' } else { '?' };
    PlainHttp::LoopbackOnly.admit(&format!("{address}{joint}{name}={value}")).ok()
}

/// As a part of a path. The names that RunPod gives come out as they are.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn made_up_name() -> String {
    let mut bytes = [0; 8];
    // Without entropy several workers share a name, which no one but a log would notice.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, ConfigError};
    use crate::sessions::Start;

    fn read(more: &[(&'static str, &'static str)]) -> Result<RunPod, ConfigError> {
        let mut values = BTreeMap::from([
            ("QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/1/jobs"),
            ("CONTROL_URL", "https://api.example.com"),
            ("FLEET_KEY", "0123456789abcdef"),
            ("AWS_REGION", "eu-central-1"),
            ("MODELS_DIR", "/models"),
            ("RUNPOD_WEBHOOK_GET_JOB", "https://api.runpod.ai/v2/ep/job-take/$ID?gpu=NVIDIA+L4"),
            ("RUNPOD_WEBHOOK_POST_OUTPUT", "https://api.runpod.ai/v2/ep/job-done/$RUNPOD_POD_ID/$ID?gpu=NVIDIA+L4"),
            ("RUNPOD_WEBHOOK_PING", "https://api.runpod.ai/v2/ep/ping/$RUNPOD_POD_ID?gpu=NVIDIA+L4"),
            ("RUNPOD_AI_API_KEY", "rpa_key"),
            ("RUNPOD_POD_ID", "pod7"),
        ]);
        values.extend(more.iter().copied());
        let config = Config::from_lookup(|name| values.get(name).map(|value| (*value).to_owned()))?;
        match config.sessions.start {
            Start::RunPod(platform) => Ok(*platform),
            other @ (Start::Poll | Start::Once | Start::Drain(_)) => panic!("{other:?}"),
        }
    }

    /// `$ID` is the worker where jobs are taken and the job where they are done.
    #[test]
    fn each_address_is_made_as_the_published_worker_makes_it() {
        let platform = read(&[]).unwrap();
        let text = |url: Option<Url>| url.unwrap().to_string();
        let base = "https://api.runpod.ai/v2/ep";
        assert_eq!(text(platform.take(false)), format!("{base}/job-take/pod7?gpu=NVIDIA+L4&job_in_progress=0"));
        assert_eq!(text(platform.take(true)), format!("{base}/job-take/pod7?gpu=NVIDIA+L4&job_in_progress=1"));
        assert_eq!(text(platform.stop()), format!("{base}/job-stop/pod7?gpu=NVIDIA+L4"));
        let done = format!("{base}/job-done/pod7/5c0d-u1?gpu=NVIDIA+L4&isStream=false");
        assert_eq!(text(platform.done("5c0d-u1")), done);
        let ping = format!("{base}/ping/pod7?gpu=NVIDIA+L4");
        assert_eq!(text(platform.ping(&[])), format!("{ping}&runpod_version=1.12.0"));
        let jobs = ["a".to_owned(), "b".to_owned()];
        assert_eq!(text(platform.ping(&jobs)), format!("{ping}&job_id=a%2Cb&runpod_version=1.12.0"));
        let unhealthy = format!("{ping}&status=unhealthy&check=gpu&reason=no+driver&runpod_version=1.12.0");
        assert_eq!(text(platform.unhealthy("gpu", "no driver")), unhealthy);
        let long = text(platform.unhealthy("gpu", &"x".repeat(5000)));
        assert_eq!(long.matches('x').count(), 256);
    }

    #[test]
    fn an_address_without_a_query_gets_one_and_a_name_stays_within_its_place() {
        let platform = read(&[("RUNPOD_WEBHOOK_GET_JOB", "https://api.runpod.ai/v2/ep/take/$ID")]).unwrap();
        assert_eq!(platform.take(false).unwrap().as_str(), "https://api.runpod.ai/v2/ep/take/pod7?job_in_progress=0");
        assert!(platform.stop().is_none(), "no stop channel can be derived");
        let done = platform.done("a/../b?c#d").unwrap();
        assert_eq!(
            done.as_str(),
            "https://api.runpod.ai/v2/ep/job-done/pod7/a%2F..%2Fb%3Fc%23d?gpu=NVIDIA+L4&isStream=false"
        );
    }

    /// The interval is ms; a worker that took it for seconds would ping without a pause, or never.
    #[test]
    fn a_ping_interval_is_in_ms_and_never_below_a_second() {
        for (given, seconds) in [("10000", 10), ("1000", 1), ("999", 1), ("0", 1), ("", 10)] {
            assert_eq!(read(&[("RUNPOD_PING_INTERVAL", given)]).unwrap().ping_interval, Duration::from_secs(seconds));
        }
    }

    #[test]
    fn nobody_pings_without_address_key_and_name() {
        for missing in ["RUNPOD_WEBHOOK_PING", "RUNPOD_AI_API_KEY", "RUNPOD_POD_ID"] {
            let platform = read(&[(missing, "")]).unwrap();
            assert!(!platform.has_pings() && platform.ping(&[]).is_none(), "{missing}");
        }
        assert!(!read(&[("RUNPOD_POD_ID", "")]).unwrap().take(false).unwrap().path().contains("$ID"));
    }

    #[test]
    fn plain_http_leads_to_this_machine_only() {
        let local = "http://127.0.0.1:8000/v2/ep/job-take/$ID?x=1";
        assert!(read(&[("RUNPOD_WEBHOOK_GET_JOB", local)]).is_ok());
        let far = "http://api.runpod.ai/v2/ep/job-take/$ID?x=1";
        assert!(read(&[("RUNPOD_WEBHOOK_GET_JOB", far)]).unwrap_err().to_string().contains("GET_JOB"));
    }
}
