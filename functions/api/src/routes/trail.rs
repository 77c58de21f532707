//! A job's story: its changes of state as JSON, or live as server-sent events where the host can stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use rotoless_contract::api::JobTrail;
use rotoless_contract::{ClientId, JobId};
use rotoless_core::record::JobRecord;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::jobs::{IdPath, id, own, polled};
use crate::App;
use crate::auth::Client;
use crate::envelope::ApiError;
use crate::state::Streams;

/// How often a watched job is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A comment goes out after this much silence, so that nobody between takes the connection for dead.
const SILENCE: Duration = Duration::from_secs(15);
/// A stream ends after this time; whoever still watches connects again.
const LONGEST: Duration = Duration::from_secs(3600);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(events))
}

/// Read a job's story
///
/// Its changes of state; or, with `Accept: text/event-stream` and where the host can stream, the whole job whenever it
/// changes, as events `job` whose id goes into `Last-Event-ID` when connecting again. A stream ends with the job.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", operation_id = "getJobEvents", tag = "Jobs",
    params(
        ("id" = JobId, Path, description = "The job"),
        ("Last-Event-ID" = Option<String>, Header, description = "Of a stream: the last event that was seen"),
    ),
    responses((status = 200, description = "The story", content(
        (JobTrail = "application/json"),
        (String = "text/event-stream"),
    ))),
)]
async fn events(
    State(app): State<App>,
    Client(client): Client,
    path: IdPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = own(&app, &client, &id(path)?).await?;
    match &app.streams {
        Some(streams) if wants_stream(&headers) => watch(&app, streams, client, job, &headers),
        Some(_) | None => Ok(Json(JobTrail { job_id: job.id, items: job.trail }).into_response()),
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

fn watch(
    app: &App,
    streams: &Streams,
    client: ClientId,
    job: JobRecord,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let place = Arc::clone(&streams.places).try_acquire_owned().map_err(|_| ApiError::unavailable())?;
    let seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let watch = Watch {
        app: Arc::clone(app),
        streams: streams.clone(),
        client,
        id: job.id,
        seen,
        is_over: false,
        ends: Instant::now() + LONGEST,
        pause: Duration::ZERO,
        _place: place,
    };
    let events =
        stream::unfold(watch, async |mut watch| watch.next().await.map(|event| (Ok::<_, Infallible>(event), watch)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SILENCE)).into_response())
}

/// One client who watches one job.
struct Watch {
    app: App,
    streams: Streams,
    client: ClientId,
    id: JobId,
    /// Version of the job that was shown last.
    seen: Option<u64>,
    is_over: bool,
    ends: Instant,
    pause: Duration,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// The job whenever it has changed, until it has ended. Its version is the event's id.
    async fn next(&mut self) -> Option<Event> {
        while !self.is_over && Instant::now() < self.ends {
            tokio::select! {
                () = sleep(self.pause) => {}
                () = self.streams.closing.cancelled() => return None,
            }
            self.pause = LOOK;
            // Deleted, or the store is away: whoever watches connects again and is told.
            let job = own(&self.app, &self.client, &self.id).await.ok()?;
            self.is_over = job.state.status().is_terminal();
            if self.seen == Some(job.version) && !self.is_over {
                continue;
            }
            self.seen = Some(job.version);
            let shown = polled(&self.app, &job).await.ok()?;
            return Event::default().event("job").id(job.version.to_string()).json_data(&shown).ok();
        }
        None
    }
}
