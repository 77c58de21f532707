//! Estimate: what a job would cost and how long it would take. Nothing is created, held or sent.

use jiff::Timestamp;
use rotoless_contract::api::JobRequest;
use rotoless_contract::{ClientId, JobStatus, MilliCredits, Model};

use super::{Submit, SubmitError};
use crate::policy::cost;
use crate::ports::{ListQuery, StoreError};
use crate::record::JobRecord;
use crate::request::{self, Order};

/// The client's last jobs whose pace is asked.
const SAMPLE: u32 = 20;

/// A would-be job.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// What would be ordered.
    pub order: Order,
    /// The header's length in ms, where it has one.
    pub duration_ms: Option<u64>,
    /// Seconds that would be held for.
    pub billed_seconds: u64,
    /// What would be held.
    pub cost: MilliCredits,
    /// Seconds from the first attempt's begin to the end, at the pace of the client's last jobs of the model.
    pub expected_seconds: Option<u64>,
}

impl Submit {
    /// Judges a request as [`Submit::create`] does, up to the hold.
    ///
    /// # Errors
    /// [`SubmitError`], as `create` would.
    pub async fn estimate(&self, client: &ClientId, request: &JobRequest) -> Result<Estimate, SubmitError> {
        let order = request::validate(request, self.policy.allow_http)?;
        let measured = self.measure(client, request).await?;
        let rate = self.policy.pricing.per_second(order.spec.model);
        let expected_seconds = match measured.duration_ms {
            Some(ms) => {
                self.pace(client, order.spec.model).await?.map(|pace| (pace * ms as f64 / 1000.0).ceil() as u64)
            }
            None => None,
        };
        Ok(Estimate {
            order,
            duration_ms: measured.duration_ms,
            billed_seconds: measured.seconds,
            cost: cost(rate, measured.seconds),
            expected_seconds,
        })
    }

    /// Seconds of work for a second of video: the median of the client's last completed jobs of a model.
    async fn pace(&self, client: &ClientId, model: Model) -> Result<Option<f64>, StoreError> {
        let query = ListQuery {
            client: client.clone(),
            statuses: vec![JobStatus::Completed],
            limit: SAMPLE,
            offset: 0,
            cursor: None,
        };
        let page = self.jobs.list(&query).await?;
        let mut paces: Vec<f64> = page.items.iter().filter(|job| job.spec.model == model).filter_map(pace).collect();
        paces.sort_unstable_by(f64::total_cmp);
        Ok(paces.get(paces.len() / 2).copied())
    }
}

fn pace(job: &JobRecord) -> Option<f64> {
    let span = |from: Option<Timestamp>, to: Option<Timestamp>| Some(to?.duration_since(from?).as_secs_f64());
    let video = job.output.as_ref().map(|output| output.info.duration_ms as f64 / 1000.0)?;
    let work = span(job.started_at, job.completed_at)?;
    (video > 0.0 && work >= 0.0).then_some(work / video)
}
