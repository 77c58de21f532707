//! `rotoless up` in a process and on a processor of its own, as the kernel and its clients see it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::unistd::{SysconfVar, sysconf};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::client::Client;
use super::cores;
use super::service::{CREDITS, arguments};
use crate::service_file::ServiceFile;
use crate::up::first_key;
use crate::up::secrets::Secrets;

const START: Duration = Duration::from_secs(30);
const ADMIN_TOKEN: &str = "bench";

pub(super) struct Neighbour {
    child: Child,
    data_dir: tempfile::TempDir,
}

impl Neighbour {
    /// Starts it and waits until it answers.
    pub(super) fn start(models: &Path, core: usize) -> Result<Self> {
        let data_dir = tempfile::tempdir()?;
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.args(arguments(data_dir.path(), models)?);
        command.env("ROTOLESS_ADMIN_TOKEN", ADMIN_TOKEN).stdin(Stdio::null()).stdout(Stdio::null());
        // From a thread of its own: where that one may run, the process may.
        let spawned = std::thread::scope(|scope| {
            let starting = scope.spawn(|| {
                cores::pin(core)?;
                command.spawn().context("cannot start `rotoless up`")
            });
            starting.join()
        });
        let Ok(child) = spawned else { bail!("cannot start `rotoless up`") };
        let mut started = Self { child: child?, data_dir };
        started.wait()?;
        Ok(started)
    }

    fn wait(&mut self) -> Result<()> {
        let began = Instant::now();
        while ServiceFile::read(self.data_dir.path()).is_none() {
            if let Some(status) = self.child.try_wait()? {
                bail!("`rotoless up` ended with {status}");
            }
            if began.elapsed() > START {
                bail!("`rotoless up` did not come up within {START:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its first client, with more credits than any measurement needs.
    pub(super) async fn client(&self) -> Result<Client> {
        let service = ServiceFile::read(self.data_dir.path()).context("`rotoless up` is gone")?;
        let secrets = Secrets::read(self.data_dir.path())?.context("`rotoless up` has no secrets")?;
        let client = Client::new(&service.url, secrets.api_key.expose_secret())?;
        let grant = client.request(reqwest::Method::POST, "/v1/admin/credits").header("x-admin-token", ADMIN_TOKEN);
        Client::answer(grant.json(&json!({"client_id": first_key::CLIENT, "credits": CREDITS}))).await?;
        Ok(client)
    }

    /// Processor time of all its threads so far.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The name stands in parentheses and may contain anything; `utime` and `stime` are the 12th and 13th after it.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
        let ticks: u64 = fields.into_iter().flatten().skip(11).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel does not tell its clock's ticks")?;
        Ok(Duration::from_secs(ticks) / u32::try_from(per_second)?)
    }

    /// Resident memory, bytes.
    pub(super) fn memory(&self) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel tells no memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn read(&self, what: &str) -> Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{what}", self.child.id())).context("`rotoless up` is gone")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // Its data directory goes with it: there is nothing to drain.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
