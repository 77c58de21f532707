//! `rotoless doctor --remote URL`: whether a deployment answers as it should, seen from where its clients are.
//!
//! Owns: what is asked, and what to do about each answer. Does not own: bounds on exchanges (`door`).
//! Invariants: no key, token or presigned link is printed; what is made (one upload, one draft that holds no credits) is
//! deleted; it ends within [`ALL`], whatever answers.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use reqwest::Method;
use rotoless_contract::ErrorCode;
use rotoless_contract::api::{ConfigReply, CreditsReply, HealthReply, HealthStatus, JobReply, KeyList, PresignReply};
use serde_json::json;
use url::Url;

use super::door::{Answer, Door, NoAnswer, ask, shown};

/// The whole examination.
const ALL: Duration = Duration::from_secs(90);
/// Names are found within this time.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Workers' signatures hold for so long.
const MAX_CLOCK_SECONDS: i64 = 300;
/// A clock that is off by so much is worth a word.
const CLOCK_SECONDS: i64 = 30;
/// A tenth of a second of gray, to be uploaded and never worked on.
const CLIP: &[u8] = include_bytes!("gray.mp4");

/// The key and the token, where they are given.
pub(super) struct Secrets<'a> {
    pub(super) api_key: Option<&'a str>,
    pub(super) admin_token: Option<&'a str>,
}

/// Says what it finds; an error when anything is not as it should be.
pub(super) async fn run(url: &Url, secrets: Secrets<'_>) -> Result<()> {
    let mut examination = Examination { door: Door::new(url)?, url, secrets, failed: 0 };
    match tokio::time::timeout(ALL, examination.examine()).await {
        Ok(examined) => examined?,
        Err(_) => {
            let took = format!("the examination took more than {} s", ALL.as_secs());
            examination.failed(&took, "the service is slow: look at the functions' durations and throttles")?;
        }
    }
    match examination.failed {
        0 => Ok(()),
        failed => bail!("{failed} of the checks failed"),
    }
}

struct Examination<'a> {
    door: Door,
    url: &'a Url,
    secrets: Secrets<'a>,
    failed: u32,
}

impl Examination<'_> {
    fn fine(&self, what: &str) -> Result<()> {
        Ok(writeln!(std::io::stdout().lock(), "ok       {what}")?)
    }

    fn note(&self, what: &str) -> Result<()> {
        Ok(writeln!(std::io::stdout().lock(), "note     {what}")?)
    }

    fn failed(&mut self, what: &str, remedy: &str) -> Result<()> {
        self.failed += 1;
        Ok(writeln!(std::io::stdout().lock(), "FAILED   {what}\n         -> {remedy}")?)
    }

    fn judge(&mut self, what: &str, judged: Result<(), String>, remedy: &str) -> Result<()> {
        match judged {
            Ok(()) => self.fine(what),
            Err(found) => self.failed(&format!("{what}: {found}"), remedy),
        }
    }

    async fn examine(&mut self) -> Result<()> {
        if !self.name_is_found().await? || !self.is_rotoless().await? {
            return Ok(());
        }
        self.preflight().await?;
        self.refusals().await?;
        match self.secrets.api_key {
            Some(key) => self.as_client(key).await?,
            None => self.note("without --api-key neither credits nor uploads are looked at")?,
        }
        match self.secrets.admin_token {
            Some(token) => self.as_operator(token).await,
            None => self.note("without --admin-token the configuration is not looked at"),
        }
    }

    async fn name_is_found(&mut self) -> Result<bool> {
        let (Some(host), Some(port)) = (self.url.host_str(), self.url.port_or_known_default()) else {
            self.failed("the URL names no host", "give it as https://HOST")?;
            return Ok(false);
        };
        let name = host.trim_matches(['[', ']']).to_owned();
        let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name, port))).await;
        if !found.is_ok_and(|found| found.is_ok_and(|mut found| found.next().is_some())) {
            let remedy = "compare with the stack's output ApiUrl; a domain of your own needs its DNS record";
            self.failed(&format!("{host} is not known to DNS"), remedy)?;
            return Ok(false);
        }
        self.fine(&format!("{host} is known to DNS"))?;
        let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        if self.url.scheme() != "https" && !is_local {
            self.failed("the URL is not https: keys and videos travel in the open", "use the https URL")?;
        }
        Ok(true)
    }

    /// Health, version, clock. `false` when it makes no sense to go on.
    async fn is_rotoless(&mut self) -> Result<bool> {
        let answer = match ask(self.door.request(Method::GET, "/health")).await {
            Ok(answer) => answer,
            Err(err) => {
                self.failed(&format!("GET /health: {err}"), remedy(&err))?;
                return Ok(false);
            }
        };
        let health: HealthReply = match answer.json() {
            Ok(health) => health,
            Err(found) => {
                let remedy =
                    "this is another service, or a path in front of it is wrong: compare with the output ApiUrl";
                self.failed(&format!("GET /health: {found}"), remedy)?;
                return Ok(false);
            }
        };
        self.health(&health)?;
        self.clock(&answer)?;
        Ok(true)
    }

    fn health(&mut self, health: &HealthReply) -> Result<()> {
        let checks = &health.checks;
        let (theirs, ours) = (shown(&checks.version), env!("CARGO_PKG_VERSION"));
        match theirs == ours {
            true => self.fine(&format!("Rotoless {theirs} answers"))?,
            false => self.note(&format!("Rotoless {theirs} answers; this program is {ours}"))?,
        }
        match health.status {
            HealthStatus::Healthy => self.fine("database, queue and object store answer")?,
            HealthStatus::Degraded => {
                let parts =
                    [("database", checks.database), ("queue", checks.queue), ("object store", checks.s3_configured)];
                let away: Vec<_> = parts.iter().filter(|(_, answers)| !answers).map(|(part, _)| *part).collect();
                let remedy = "look at the api function's errors: a right, a name or a limit of that part is wrong";
                self.failed(&format!("does not answer: {}", away.join(", ")), remedy)?;
            }
        }
        match checks.worker_last_seen {
            None => self.note("no worker was ever heard of: the first one is when the first job runs"),
            Some(seen) => {
                let hours = Timestamp::now().duration_since(seen).as_hours();
                let when = if hours < 1 { "within the hour".to_owned() } else { format!("{hours} h ago") };
                self.fine(&format!("a worker was last heard of {when}"))
            }
        }
    }

    /// Workers' calls and webhooks are signed with the time.
    fn clock(&mut self, answer: &Answer) -> Result<()> {
        let date = answer.header("date");
        let said = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
        let Some(said) = said else { return self.note("the service does not say what time it is (no Date header)") };
        let off = Timestamp::now().duration_since(said).as_secs().abs();
        if off > MAX_CLOCK_SECONDS {
            let what = format!("this machine's clock and the service's differ by {off} s");
            self.failed(&what, "set this machine's clock by NTP; beyond 300 s a worker on it is refused")
        } else if off > CLOCK_SECONDS {
            self.note(&format!("this machine's clock and the service's differ by {off} s"))
        } else {
            self.fine("its clock agrees with this machine's")
        }
    }

    /// What a browser asks before a page may call.
    async fn preflight(&mut self) -> Result<()> {
        let request = self.door.request(Method::OPTIONS, "/v1/jobs").header("origin", "https://page.example");
        let request = request.header("access-control-request-method", "POST");
        let answer = ask(request.header("access-control-request-headers", "content-type,x-api-key")).await;
        let judged = answer.map_err(|err| err.to_string()).and_then(|answer| {
            let allows = |name: &str, what: &str| {
                answer.header(name).is_some_and(|list| {
                    list == "*" || list.split(',').any(|word| word.trim().eq_ignore_ascii_case(what))
                })
            };
            let all = answer.status.is_success()
                && allows("access-control-allow-origin", "https://page.example")
                && allows("access-control-allow-methods", "POST")
                && allows("access-control-allow-headers", "x-api-key");
            if all { Ok(()) } else { Err(answer.described()) }
        });
        self.judge("a page of any origin may call (CORS)", judged, "the gateway must leave OPTIONS to the api function")
    }

    /// What must not be answered, and how.
    async fn refusals(&mut self) -> Result<()> {
        let route = "the gateway's default route must lead to the api function, and nothing before it may answer";
        let worker = "the route /internal/v1/{proxy+} must lead to the callback function; look at its errors";
        let claim = format!("/internal/v1/jobs/job_{}/claim", "0".repeat(32));
        let get = |path: &str| self.door.request(Method::GET, path);
        let asked = [
            ("an unknown path is a 404 in the envelope", get("/rotoless-doctor"), ErrorCode::NotFound, route),
            ("no key is a 401 in the envelope", get("/v1/credits"), ErrorCode::MissingApiKey, route),
            (
                "a wrong key is a 401 in the envelope",
                get("/v1/credits").header("x-api-key", "not-a-key"),
                ErrorCode::InvalidApiKey,
                route,
            ),
            (
                "a worker without a signature is refused",
                self.door.request(Method::POST, &claim).body("{}"),
                ErrorCode::InvalidSignature,
                worker,
            ),
        ];
        for (what, request, code, remedy) in asked {
            let judged = ask(request).await.map_err(|err| err.to_string()).and_then(|answer| answer.refuses(code));
            self.judge(what, judged, remedy)?;
        }
        Ok(())
    }

    async fn as_client(&mut self, key: &str) -> Result<()> {
        let answer = ask(self.door.request(Method::GET, "/v1/credits").header("x-api-key", key)).await;
        let credits = answer.map_err(|err| err.to_string()).and_then(|answer| {
            let credits: CreditsReply = answer.json()?;
            match answer.header("x-ratelimit-limit").zip(answer.header("x-ratelimit-remaining")) {
                Some((limit, left)) => {
                    Ok((credits, format!("{} of {} requests a minute left", shown(left), shown(limit))))
                }
                None => Err("an answer without X-RateLimit headers".to_owned()),
            }
        });
        match credits {
            Ok((credits, limits)) => {
                self.fine(&format!("the key opens: {} credits available, {limits}", credits.available.0))?;
            }
            Err(found) => {
                return self
                    .failed(&format!("GET /v1/credits with the key: {found}"), "make a key: rotoless keys create");
            }
        }
        let round = self.round_trip(key).await;
        let remedy = "look at the bucket's policy and CORS, the api function's rights, and the request's id in its log";
        self.judge("an upload by link, a draft made of it, and both deleted", round, remedy)
    }

    /// Upload by a presigned link, a draft that reads the upload's header and holds no credits, and its deletion, which
    /// takes the upload with it.
    async fn round_trip(&self, key: &str) -> Result<(), String> {
        let words = |step: &'static str| move |err: NoAnswer| format!("{step}: {err}");
        let request = |method, path: &str| self.door.request(method, path).header("x-api-key", key);
        let body = json!({"filename": "rotoless-doctor.mp4", "content_type": "video/mp4", "size": CLIP.len()});
        let answer = ask(request(Method::POST, "/v1/uploads").json(&body)).await.map_err(words("POST /v1/uploads"))?;
        let link: PresignReply = answer.json().map_err(|found| format!("POST /v1/uploads: {found}"))?;
        let mut put = self.door.elsewhere(Method::PUT, &link.upload_url).body(CLIP);
        for (name, value) in &link.headers {
            put = put.header(name, value);
        }
        let stored = ask(put).await.map_err(words("the upload to the object store"))?;
        if !stored.status.is_success() {
            return Err(format!("the upload to the object store: {}", stored.status));
        }
        let draft = json!({"video_url": link.video_url, "model": "light", "auto_start": false});
        let answer = ask(request(Method::POST, "/v1/jobs").json(&draft)).await.map_err(words("POST /v1/jobs"))?;
        let job: JobReply = answer.json().map_err(|found| format!("POST /v1/jobs: {found}"))?;
        let path = format!("/v1/jobs/{}", job.job.id);
        let gone = ask(request(Method::DELETE, &path)).await.map_err(words("DELETE /v1/jobs/{id}"))?;
        gone.json::<serde_json::Value>().map_err(|found| format!("DELETE /v1/jobs/{{id}}: {found}"))?;
        let after = ask(request(Method::GET, &path)).await.map_err(words("GET /v1/jobs/{id}"))?;
        after.refuses(ErrorCode::NotFound).map_err(|found| format!("the deleted draft is still shown: {found}"))
    }

    async fn as_operator(&mut self, token: &str) -> Result<()> {
        let request = |path: &str| self.door.request(Method::GET, path).header("x-admin-token", token);
        let (config, keys) = (request("/v1/admin/config"), request("/v1/admin/keys"));
        let config = ask(config).await.map_err(|err| err.to_string()).and_then(|answer| answer.json::<ConfigReply>());
        let config = match config {
            Ok(config) => config,
            Err(found) => {
                let remedy = "the token must be the stack's; without one in the stack the admin routes do not exist";
                return self.failed(&format!("GET /v1/admin/config: {found}"), remedy);
            }
        };
        let backends: Vec<_> = config.backends.values().map(|backend| shown(backend)).collect();
        self.fine(&format!("the admin token opens; the service runs on {}", backends.join(", ")))?;
        let (said, asked) = (config.public_base_url.as_str(), self.url.as_str().trim_end_matches('/'));
        match said == asked {
            true => self.fine("it knows itself by this URL")?,
            false => self.failed(
                &format!("it knows itself as {}, not by this URL: the links of uploads lead there", shown(said)),
                "set the stack's parameter PublicBaseUrl (or --public-url) to the URL that clients use",
            )?,
        }
        let keys = ask(keys).await.map_err(|err| err.to_string()).and_then(|answer| answer.json::<KeyList>());
        match keys {
            Ok(keys) => {
                let enabled = keys.items.iter().filter(|key| key.enabled).count();
                let text = format!("{enabled} of {} keys are enabled", keys.items.len());
                if enabled > 0 { self.fine(&text) } else { self.note(&format!("{text}: rotoless keys create")) }
            }
            Err(found) => {
                self.failed(&format!("GET /v1/admin/keys: {found}"), "look at the request's id in the api's log")
            }
        }
    }
}

const fn remedy(err: &NoAnswer) -> &'static str {
    match err {
        NoAnswer::Timeout => "something takes the connection and says nothing: a firewall, or another program's port",
        NoAnswer::NoConnection(_) => "nobody listens there: compare with the stack's output ApiUrl, and the port",
        NoAnswer::Tls(_) => {
            "the certificate is not for this name, not trusted or not valid now, or that port speaks no TLS"
        }
        NoAnswer::TooLarge | NoAnswer::NotHttp(_) => "this is another service: compare with the stack's output ApiUrl",
    }
}
