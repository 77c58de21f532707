//! `rotoless keys`, `credits` and `jobs`: a client of the public API, like any other.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use rotoless_contract::api::{CreateKeyRequest, GrantRequest, KeyRef};
use rotoless_contract::{ErrorEnvelope, Job, JobId, JobStatus};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::cli::{CreditsCommand, JobsCommand, KeysCommand, Remote};
use crate::service_file::ServiceFile;
use crate::up::secrets::Secrets;

/// Answers are small; a larger one is not ours.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

enum Credential {
    ApiKey,
    AdminToken,
}

struct Client {
    http: reqwest::Client,
    remote: Remote,
    url: String,
}

impl Client {
    fn new(remote: Remote) -> Result<Self> {
        let running = ServiceFile::read(&remote.data_dir.data_dir);
        let url = match (&remote.url, running) {
            (Some(url), _) => url.as_str().trim_end_matches('/').to_owned(),
            (None, Some(running)) => running.url,
            (None, None) => bail!(
                "no service runs on {}: start one with `rotoless up`, or name one with --url",
                remote.data_dir.data_dir.display()
            ),
        };
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { http, remote, url })
    }

    async fn call(&self, method: Method, path: &str, credential: Credential, body: Option<Value>) -> Result<Value> {
        let (header, secret) = match credential {
            Credential::ApiKey => ("x-api-key", self.api_key()?),
            Credential::AdminToken => {
                let token = self.remote.admin_token.clone();
                ("x-admin-token", token.context("give the service's --admin-token (or ROTOLESS_ADMIN_TOKEN)")?)
            }
        };
        let mut request = self.http.request(method, format!("{}{path}", self.url)).header(header, secret);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let mut response = request
            .send()
            .await
            .map_err(reqwest::Error::without_url)
            .with_context(|| format!("no answer from {}", self.url))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            bytes.extend_from_slice(&chunk);
            anyhow::ensure!(bytes.len() <= MAX_ANSWER, "the answer is too large");
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes).context("the answer is not JSON");
        }
        match serde_json::from_slice::<ErrorEnvelope>(&bytes) {
            Ok(ErrorEnvelope { error }) => bail!("{} ({status}, request {})", error.message, error.request_id),
            Err(_) => bail!("{status}"),
        }
    }

    fn api_key(&self) -> Result<String> {
        if let Some(key) = &self.remote.api_key {
            return Ok(key.clone());
        }
        let secrets = Secrets::read(&self.remote.data_dir.data_dir)?;
        let secrets = secrets.context("give an --api-key (or ROTOLESS_API_KEY)")?;
        Ok(secrets.api_key.expose_secret().to_owned())
    }

    async fn job(&self, id: &JobId) -> Result<Job> {
        let job = self.call(Method::GET, &format!("/v1/jobs/{id}"), Credential::ApiKey, None).await?;
        Ok(serde_json::from_value(job)?)
    }
}

pub(crate) async fn keys(command: KeysCommand) -> Result<()> {
    let (path, remote, body) = match command {
        KeysCommand::Create { client_id, note, credits, remote } => {
            let body = serde_json::to_value(CreateKeyRequest { client_id, note, credits })?;
            ("/v1/admin/keys", remote, Some(body))
        }
        KeysCommand::List { remote } => ("/v1/admin/keys", remote, None),
        KeysCommand::Disable { key_fingerprint, remote } => {
            ("/v1/admin/keys/disable", remote, Some(serde_json::to_value(KeyRef { key_fingerprint })?))
        }
        KeysCommand::Enable { key_fingerprint, remote } => {
            ("/v1/admin/keys/enable", remote, Some(serde_json::to_value(KeyRef { key_fingerprint })?))
        }
    };
    let method = if body.is_some() { Method::POST } else { Method::GET };
    print(&Client::new(remote)?.call(method, path, Credential::AdminToken, body).await?)
}

pub(crate) async fn credits(command: CreditsCommand) -> Result<()> {
    let answer = match command {
        CreditsCommand::Grant { client_id, credits, grant_id, remote } => {
            let body = serde_json::to_value(GrantRequest { client_id, credits, grant_id, note: None })?;
            Client::new(remote)?.call(Method::POST, "/v1/admin/credits", Credential::AdminToken, Some(body)).await?
        }
        CreditsCommand::Show { remote } => {
            Client::new(remote)?.call(Method::GET, "/v1/credits", Credential::ApiKey, None).await?
        }
    };
    print(&answer)
}

pub(crate) async fn jobs(command: JobsCommand) -> Result<()> {
    match command {
        JobsCommand::List { limit, remote } => {
            let path = format!("/v1/jobs?limit={limit}");
            let page = Client::new(remote)?.call(Method::GET, &path, Credential::ApiKey, None).await?;
            let jobs: Vec<Job> = serde_json::from_value(page["items"].clone())?;
            let mut out = std::io::stdout().lock();
            for job in jobs {
                let (id, status, progress, model) = (&job.id, job.status, job.progress, job.model);
                writeln!(out, "{id}  {status:<10}  {progress:>3} %  {model:<8}  {}", job.created_at)?;
            }
            Ok(())
        }
        JobsCommand::Show { id, remote } => print(&serde_json::to_value(Client::new(remote)?.job(&id).await?)?),
        JobsCommand::Cancel { id, remote } => {
            let path = format!("/v1/jobs/{id}/cancel");
            print(&Client::new(remote)?.call(Method::POST, &path, Credential::ApiKey, None).await?)
        }
        JobsCommand::Wait { id, remote } => wait(&Client::new(remote)?, &id).await,
    }
}

async fn wait(client: &Client, id: &JobId) -> Result<()> {
    loop {
        let job = client.job(id).await?;
        match job.status {
            JobStatus::Completed => return print(&serde_json::to_value(job)?),
            JobStatus::Failed => bail!("{}", job.error.unwrap_or_else(|| "the job failed".to_owned())),
            JobStatus::Created | JobStatus::Pending | JobStatus::Processing => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn print(answer: &Value) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(answer)?)?;
    Ok(())
}
