//! The servers a worker talks to, behind one port: a control plane that checks signatures, a store that keeps
//! conditional writes apart, a queue of one message. They act by the script of their [`World`].

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use jiff::Timestamp;
use rotoless_contract::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sha256_hex, verify_call};
use rotoless_contract::worker::{
    ClaimReply, ClaimRequest, Download, FreshLinks, HeartbeatReply, HeartbeatRequest, KeptMatte, MediaLimits,
    ProbedReply, ProbedRequest, Refusal, ReportReply, ReportRequest, SegmentTerms, SegmentsReply, SegmentsRequest,
    Stage, Upload,
};
use rotoless_contract::{Attempt, Background, JobSpec, JobStatus, MilliCredits, Model, OutputFormat};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::world::{CLAIM_TOKEN, Event, FLEET_KEY, On, SOURCE, Shared, Twist, World};

/// All of them.
pub(super) fn router(world: World) -> Router {
    Router::new()
        .route("/", post(sqs))
        .route("/internal/v1/jobs/{job}/claim", post(claim))
        .route("/internal/v1/jobs/{job}/attempts/{attempt}/{call}", post(attempt_call))
        .route("/store/source", get(source))
        .route("/store/output", put(output))
        .route("/store/matte", put(matte))
        .route("/store/manifest", put(manifest))
        .route("/store/segments/{index}", put(store_segment).get(read_segment))
        .with_state(world)
}

fn refusal(refusal: Refusal) -> Response {
    let retry_after = (refusal == Refusal::Leased).then_some(17);
    envelope(409, "conflict", Some(refusal.as_str()), retry_after)
}

fn envelope(status: u16, code: &str, reason: Option<&str>, retry_after: Option<u32>) -> Response {
    let error = json!({"code": code, "message": "", "request_id": "r", "reason": reason,
        "retry_after_seconds": retry_after});
    (StatusCode::from_u16(status).unwrap(), axum::Json(json!({ "error": error }))).into_response()
}

/// The answer breaks off before its first byte of body.
fn lost() -> Response {
    let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("lost"))]);
    Response::new(Body::from_stream(broken))
}

/// The twists that every call of the control plane has in common.
fn plain(twist: Option<Twist>) -> Option<Response> {
    match twist? {
        Twist::Fail(402) => Some(envelope(402, "insufficient_credits", None, None)),
        Twist::Fail(status) => Some(envelope(status, "unavailable", None, None)),
        Twist::Refuse(why) => Some(refusal(why)),
        Twist::LoseReply
        | Twist::Cancel
        | Twist::Stale
        | Twist::TooLong
        | Twist::Drip
        | Twist::Cut
        | Twist::EndLinks
        | Twist::EndSession => None,
    }
}

fn verified(secret: &SecretString, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Box<Response>> {
    let header = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    verify_call(secret, "POST", path, header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER), body, Timestamp::now())
        .map_err(|_| Box::new(envelope(401, "invalid_signature", None, None)))
}

async fn claim(State(world): State<World>, Path(job): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let path = format!("/internal/v1/jobs/{job}/claim");
    if let Err(refused) = verified(&FLEET_KEY.into(), &path, &headers, &body) {
        world.change(|shared| shared.refused_signatures += 1);
        return *refused;
    }
    let request: ClaimRequest = serde_json::from_slice(&body).unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&request.claim_token), CLAIM_TOKEN);
    world.log.add(Event::Claim);
    world.change(|shared| shared.late_claims += u32::from(Instant::now() >= shared.visible_at));
    let twist = world.twisted(On::Claim);
    if let Some(response) = plain(twist) {
        return response;
    }
    let (attempt, lease_seconds, deadline_seconds) =
        world.change(|shared| (shared.attempt, shared.lease_seconds, shared.deadline_seconds));
    let background = world.change(|shared| shared.background.clone());
    let store = |name: &str| link(&world, name);
    let reply = ClaimReply {
        job_id: world.job.clone(),
        run: request.run,
        attempt,
        lease_seconds,
        deadline_seconds,
        links_last_seconds: world.change(|shared| shared.links_last_seconds),
        spec: JobSpec {
            model: Model::Light,
            background: background.clone(),
            output_format: OutputFormat::Webm,
            text_prompt: None,
            composition: None,
        },
        input: match world.change(|shared| shared.external.clone()) {
            Some(url) => Download { url, size_bytes: 500_000_000, external: true },
            None => Download { url: store("source"), size_bytes: SOURCE.len() as u64, external: false },
        },
        background: (background != Background::Transparent).then(|| Download {
            url: store("source"),
            size_bytes: SOURCE.len() as u64,
            external: false,
        }),
        kept_matte: world.change(|shared| shared.kept_matte.clone()).map(|sha256| KeptMatte {
            download: Download { url: store("source"), size_bytes: SOURCE.len() as u64, external: false },
            sha256,
            source_sha256: world.change(|shared| shared.matte_source.clone()),
            made_for: OutputFormat::Gif,
        }),
        keep_matte: world.change(|shared| shared.keeps_matte).then(|| matte_link(&world)),
        output: output_link(&world),
        manifest: manifest_link(&world),
        report_secret: world.secret(attempt),
        limits: MediaLimits::default(),
        segments: world.change(|shared| shared.segments).then_some(SegmentTerms { seconds: 1 }),
    };
    if twist == Some(Twist::LoseReply) { lost() } else { axum::Json(reply).into_response() }
}

/// A link that the store takes until the next one is given.
fn link(world: &World, name: &str) -> String {
    let number = world.change(|shared| shared.link);
    format!("{}/store/{name}?X-Amz-Signature=canary{number}", world.origin)
}

fn output_link(world: &World) -> Upload {
    let headers = vec![("content-type".to_owned(), "video/webm".to_owned())];
    Upload { key: "outputs/x/1/1/output.webm".to_owned(), url: link(world, "output"), headers }
}

fn matte_link(world: &World) -> Upload {
    let headers = vec![("content-type".to_owned(), "video/x-matroska".to_owned())];
    Upload { key: "outputs/x/1/1/matte.mkv".to_owned(), url: link(world, "matte"), headers }
}

fn manifest_link(world: &World) -> Upload {
    Upload { key: "outputs/x/1/manifest.json".to_owned(), url: link(world, "manifest"), headers: Vec::new() }
}

/// Whether the store takes the link, after what happens to links now.
fn judge_link(world: &World, query: Option<&str>, twist: Option<Twist>) -> Option<Response> {
    match twist {
        Some(Twist::EndLinks) => world.change(|shared| shared.link += 1),
        Some(Twist::EndSession) => {
            world.change(|shared| shared.link += 1);
            let said = "<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>x</Message></Error>";
            return Some((StatusCode::BAD_REQUEST, said).into_response());
        }
        _ => {}
    }
    let number = query.and_then(|query| query.strip_prefix("X-Amz-Signature=canary"));
    let is_good = number == Some(world.change(|shared| shared.link).to_string().as_str());
    (!is_good).then(|| StatusCode::FORBIDDEN.into_response())
}

async fn attempt_call(
    State(world): State<World>,
    Path((job, attempt, call)): Path<(String, Attempt, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = format!("/internal/v1/jobs/{job}/attempts/{attempt}/{call}");
    if let Err(refused) = verified(&world.secret(attempt), &path, &headers, &body) {
        world.change(|shared| shared.refused_signatures += 1);
        return *refused;
    }
    match call.as_str() {
        "heartbeat" => heartbeat(&world, &serde_json::from_slice(&body).unwrap()),
        "probed" => probed(&world, &serde_json::from_slice(&body).unwrap()),
        "segments" => segments(&world, &serde_json::from_slice(&body).unwrap()),
        "report" => report(&world, serde_json::from_slice(&body).unwrap()),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn heartbeat(world: &World, request: &HeartbeatRequest) -> Response {
    assert!(request.frames_done <= request.frames_total);
    assert!(request.seq > world.change(|shared| shared.last_beat), "each heartbeat has a higher number");
    world.change(|shared| shared.last_beat = request.seq);
    world.log.add(Event::Heartbeat);
    let twist = world.twisted(On::Heartbeat);
    plain(twist).unwrap_or_else(|| {
        let (lease_seconds, gives) = world.change(|shared| (shared.lease_seconds, shared.gives_links));
        let links = (request.fresh_links && gives).then(|| {
            world.change(|shared| (shared.links_given, shared.link) = (shared.links_given + 1, shared.link + 1));
            let input = || Download { url: link(world, "source"), size_bytes: SOURCE.len() as u64, external: false };
            FreshLinks {
                last_seconds: 900,
                input: (request.stage == Stage::Download).then(input),
                background: None,
                kept_matte: None,
                keep_matte: None,
                output: output_link(world),
                manifest: manifest_link(world),
            }
        });
        axum::Json(HeartbeatReply { cancel: twist == Some(Twist::Cancel), lease_seconds, links }).into_response()
    })
}

fn probed(world: &World, request: &ProbedRequest) -> Response {
    assert_eq!(request.duration_ms, 2000);
    world.log.add(Event::Probed);
    plain(world.twisted(On::Probed))
        .unwrap_or_else(|| axum::Json(ProbedReply { paid_seconds: 2, held: MilliCredits::default() }).into_response())
}

fn segments(world: &World, request: &SegmentsRequest) -> Response {
    assert!(request.is_plausible());
    if let Some(response) = plain(world.twisted(On::Segments)) {
        return response;
    }
    let stored = world.change(|shared| shared.stored_segments.clone());
    let url = |index: u32| link(world, &format!("segments/{index}"));
    let read = request.read.and_then(|index| {
        Some(Download { url: url(index), size_bytes: stored.get(&index)?.len() as u64, external: false })
    });
    let headers = || vec![("if-none-match".to_owned(), "*".to_owned())];
    let write = request.write.map(|index| Upload { key: format!("s/{index}"), url: url(index), headers: headers() });
    axum::Json(SegmentsReply { finished: stored.into_keys().collect(), read, write }).into_response()
}

async fn store_segment(
    State(world): State<World>,
    Path(index): Path<u32>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    assert_eq!(headers["if-none-match"], "*");
    if world.change(|shared| shared.stored_segments.contains_key(&index)) {
        return StatusCode::PRECONDITION_FAILED;
    }
    world.log.add(Event::StoreSegment(index));
    world.change(|shared| shared.stored_segments.insert(index, body));
    StatusCode::OK
}

async fn read_segment(State(world): State<World>, Path(index): Path<u32>) -> Response {
    let stored = world.change(|shared| shared.stored_segments.get(&index).cloned());
    stored.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

fn report(world: &World, request: ReportRequest) -> Response {
    world.log.add(Event::Report(request.clone()));
    let twist = world.twisted(On::Report);
    if let Some(response) = plain(twist) {
        return response;
    }
    let reply = world.change(|shared| {
        if let Some((first, reply)) = &shared.report {
            return if *first == request { Ok(reply.clone()) } else { Err(Refusal::Contradiction) };
        }
        let reply = match &request {
            ReportRequest::Completed { manifest_sha256 } => {
                let stored = shared.manifest.as_ref().map(|bytes| sha256_hex(bytes));
                if stored.as_ref() != Some(manifest_sha256) {
                    return Err(Refusal::BadManifest);
                }
                ReportReply { status: JobStatus::Completed, delete_message: true }
            }
            ReportRequest::Failed { .. } => shared.reply_to_failure.clone(),
            ReportRequest::Abandoned { .. } => ReportReply { status: JobStatus::Pending, delete_message: false },
        };
        shared.report = Some((request, reply.clone()));
        Ok(reply)
    });
    match reply {
        Err(why) => refusal(why),
        Ok(_) if twist == Some(Twist::LoseReply) => lost(),
        Ok(reply) => axum::Json(reply).into_response(),
    }
}

async fn source(State(world): State<World>, RawQuery(query): RawQuery) -> Response {
    world.log.add(Event::Download);
    let twist = world.twisted(On::Download);
    if let Some(refused) = judge_link(&world, query.as_deref(), twist) {
        return refused;
    }
    match twist {
        Some(Twist::Fail(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Twist::TooLong) => {
            let pieces = std::iter::repeat_n(Ok::<_, std::convert::Infallible>(Bytes::from_static(SOURCE)), 1000);
            Response::new(Body::from_stream(futures::stream::iter(pieces)))
        }
        Some(Twist::Drip) => Response::new(Body::from_stream(futures::stream::unfold(0usize, |at| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let byte = SOURCE.get(at..=at).map_or(Bytes::new(), Bytes::from_static);
            Some((Ok::<_, std::io::Error>(byte), at + 1))
        }))),
        Some(Twist::Cut) => Bytes::from_static(&SOURCE[..5]).into_response(),
        _ => Bytes::from_static(SOURCE).into_response(),
    }
}

async fn output(State(world): State<World>, RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["content-type"], "video/webm");
    assert_eq!(headers["content-length"], body.len().to_string());
    assert!(!headers.contains_key("transfer-encoding"));
    world.log.add(Event::Upload);
    let twist = world.twisted(On::Upload);
    if let Some(refused) = judge_link(&world, query.as_deref(), twist) {
        return refused;
    }
    if let Some(Twist::Fail(status)) = twist {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    world.change(|shared| shared.output = Some(body));
    StatusCode::OK.into_response()
}

async fn matte(State(world): State<World>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["content-type"], "video/x-matroska");
    world.log.add(Event::KeepMatte);
    world.change(|shared| shared.matte = Some(body));
    StatusCode::OK.into_response()
}

async fn manifest(State(world): State<World>, RawQuery(query): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["if-none-match"], "*");
    world.log.add(Event::Manifest);
    let twist = world.twisted(On::Manifest);
    if let Some(refused) = judge_link(&world, query.as_deref(), twist) {
        return refused;
    }
    if let Some(Twist::Fail(status)) = twist {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    let written = world.change(|shared| {
        let free = shared.manifest.is_none();
        shared.manifest.get_or_insert(body);
        free
    });
    match (written, twist) {
        (false, _) => StatusCode::PRECONDITION_FAILED.into_response(),
        (true, Some(Twist::LoseReply)) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        (true, _) => StatusCode::OK.into_response(),
    }
}

/// Three operations of SQS in its JSON protocol, on a queue of one message.
async fn sqs(State(world): State<World>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    if !signed_now(&headers) {
        world.change(|shared| shared.refused_signatures += 1);
        return sqs_error("InvalidSignatureException");
    }
    let request: Value = serde_json::from_slice(&body).unwrap();
    let handle = request["ReceiptHandle"].as_str().unwrap_or_default().to_owned();
    let ours = |shared: &Shared| shared.message.is_some() && handle == shared.receipt.to_string();
    match target.as_str() {
        "AmazonSQS.ReceiveMessage" => receive(&world, &request),
        "AmazonSQS.DeleteMessage" => {
            world.log.add(Event::Delete);
            world.change(|shared| {
                if ours(shared) {
                    shared.message = None;
                }
            });
            sqs_answer(json!({}))
        }
        "AmazonSQS.ChangeMessageVisibility" => {
            let seconds = request["VisibilityTimeout"].as_i64().unwrap();
            let extends = seconds == world.change(|shared| shared.visibility_seconds);
            world.log.add(if extends { Event::Extend } else { Event::Release(seconds) });
            if extends && world.twisted(On::Extend) == Some(Twist::Stale) || !world.change(|shared| ours(shared)) {
                return sqs_error("ReceiptHandleIsInvalid");
            }
            let after = Duration::from_secs(seconds.unsigned_abs());
            world.change(|shared| shared.visible_at = Instant::now() + after);
            sqs_answer(json!({}))
        }
        other => panic!("{other} is not a worker's business"),
    }
}

/// AWS takes signatures of 15 minutes around its own time.
fn signed_now(headers: &HeaderMap) -> bool {
    let signed = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", headers["x-amz-date"].as_bytes()).unwrap();
    let signed = signed.to_datetime().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    Timestamp::now().as_second().abs_diff(signed.as_second()) <= 900
}

fn receive(world: &World, request: &Value) -> Response {
    let visibility = Duration::from_secs(request["VisibilityTimeout"].as_u64().unwrap());
    assert_eq!(request["MaxNumberOfMessages"], 1);
    let message = world.change(|shared| {
        let body = shared.message.clone().filter(|_| shared.visible_at <= Instant::now())?;
        shared.receipt += 1;
        shared.visible_at = Instant::now() + visibility;
        Some(json!({"MessageId": "m", "ReceiptHandle": shared.receipt.to_string(), "Body": body}))
    });
    if message.is_some() {
        world.log.add(Event::Receive);
    }
    sqs_answer(json!({"Messages": message.into_iter().collect::<Vec<_>>()}))
}

fn sqs_answer(body: Value) -> Response {
    ([("content-type", "application/x-amz-json-1.0")], body.to_string()).into_response()
}

fn sqs_error(code: &str) -> Response {
    let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": ""}).to_string();
    (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.0")], body).into_response()
}
