//! From a file to its matte and the webhook that tells of it, through a deployment and nothing else.

use rotoless_contract::JobStatus;
use serde_json::json;

use super::deployment::{Deployment, Options, schedule};
use crate::conformance::receiver::Receiver;
use crate::world::media::{self, Clip};

/// G-24: upload, order, work by the queue, webhook by the schedule, status, download: each step by the event that
/// brings it about on AWS, and every call of the worker through API Gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clip_goes_through_a_deployment_and_its_webhook_arrives() {
    let receiver = Receiver::start().await;
    let options = Options { allow_egress: Some(receiver.address()), ..Options::default() };
    let deployment = Deployment::start_with(options).await;
    let client = deployment.client("acme", 10.0).await;
    let clip = Clip::SMALL.make(deployment.scratch());
    let video_url = client.upload_by_form(&clip).await;
    let order = json!({
        "video_url": video_url, "model": "light", "output_format": "webm", "webhook_url": receiver.url("/hook"),
    });
    let id = client.order_with(order).await;
    assert!(deployment.poll(1).await.failed.is_empty());
    let deliver = deployment.function("DeliverFunction");
    let told = deliver.invoke(&schedule()).await.answer();
    assert_eq!(told, json!({"sent": 2}));
    let kinds: Vec<_> =
        receiver.wait("/hook", 2).await.iter().map(|sent| sent.json()["event"].as_str().map(str::to_owned)).collect();
    assert!(kinds.contains(&Some("job.completed".to_owned())), "{kinds:?}");
    // Whatever comes again finds nothing to do.
    assert_eq!(deliver.invoke(&schedule()).await.answer(), json!({"sent": 0}));
    let swept = deployment.sweep().await;
    assert_eq!((&swept["seen"], &swept["woken"]), (&json!(0), &json!(0)));

    let job = client.job(&id).await;
    assert_eq!((job.status, job.attempts, job.progress), (JobStatus::Completed, 1, 100));
    let webm = deployment.scratch().join("output.webm");
    client.download(&job, &webm).await;
    let difference = media::difference(&media::alpha(&webm), &media::truth(&clip));
    assert!(difference < 0.004, "the matte is off by {difference}");
    assert_eq!(client.milli_credits().await, [10_000 - 750, 0, 750]);
    assert!(deployment.queue_is_empty().await);
}
