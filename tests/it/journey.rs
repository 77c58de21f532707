//! From a file to its matte, through the whole service.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use rotoless_contract::job::BillingStatus;
use serde_json::{Value, json};

use crate::world::media::{self, Clip};
use crate::world::{Options, in_a_world, models};

/// On a machine that is busy with other tests.
const JOB: Duration = Duration::from_secs(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clip_goes_through_the_whole_service_and_comes_back_with_alpha_and_sound() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 10.0).await;
        let clip = Clip::SMALL.make(world.scratch());
        let truth = media::truth(&clip);
        let bright = truth.iter().filter(|alpha| **alpha > 200).count() as f64 / truth.len() as f64;
        assert!((0.05..0.2).contains(&bright), "the clip shows no subject: {bright}");
        for video_url in [client.upload(&clip).await, client.upload_by_form(&clip).await] {
            let id = client.order(&video_url).await;
            let job = client.completed(&id, JOB).await;
            assert_eq!((job.progress, job.billing_status), (100, Some(BillingStatus::Charged)));
            assert_eq!(job.duration_seconds, Some(1.0));
            let output = job.output.as_ref().expect("an output");
            assert!(output.info.has_alpha && output.info.has_audio);
            assert_eq!((output.info.frames, job.attempts), (12, 1));

            let webm = world.scratch().join("output.webm");
            client.download(&job, &webm).await;
            let alpha = media::alpha(&webm);
            assert_eq!(alpha.len(), 256 * 144 * Clip::SMALL.frames());
            let difference = media::difference(&alpha, &truth);
            assert!(difference < 0.004, "the matte is off by {difference}");
            check_tracks(&media::facts(&webm));
        }
        // Two seconds of `light`.
        assert_eq!(client.milli_credits().await, [10_000 - 1500, 0, 1500]);
    })
    .await;
}

/// The matte is kept with the job: other outputs need no model, which is gone by then, and no credits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_outputs_of_a_completed_job_need_no_model_and_no_credits() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 10.0).await;
        let clip = Clip::SMALL.make(world.scratch());
        let first = client.order(&client.upload(&clip).await).await;
        client.completed(&first, JOB).await;
        let paid = client.milli_credits().await;

        std::fs::remove_file(world.models().join("bright.onnx")).unwrap();
        let path = format!("/v1/jobs/{first}/exports");
        let made = client.post(&path, &json!({"output_format": "mov"})).await.ok();
        assert_eq!((&made["exported_from"], &made["credits_held"]), (&json!(first), &json!(0)));
        let job = client.completed(made["id"].as_str().unwrap(), JOB).await;
        assert_eq!((job.attempts, job.output.as_ref().map(|output| output.info.frames)), (1, Some(12)));
        let mov = world.scratch().join("export.mov");
        client.download(&job, &mov).await;
        let difference = media::difference(&media::alpha_of(&mov), &media::truth(&clip));
        assert!(difference < 0.004, "the matte is off by {difference}");
        assert_eq!(client.milli_credits().await, paid);

        client.delete(&format!("/v1/jobs/{first}")).await.ok();
        assert_eq!(client.post(&path, &json!({})).await.status, 404);
    })
    .await;
}

/// The background is a second upload of the client's; the worker fetches both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clip_comes_back_on_the_clients_own_picture_in_a_format_that_is_no_video() {
    in_a_world(Options::default(), async |world| {
        let client = world.client("acme", 10.0).await;
        let clip = Clip::SMALL.make(world.scratch());
        let video_url = client.upload(&clip).await;
        let picture = media::plain_picture(world.scratch(), "0xff0000");
        let image_url = client.upload(&picture).await;
        let order = json!({
            "video_url": video_url, "model": "light", "output_format": "gif",
            "background": {"type": "image", "image_url": image_url},
            "composition": {"canvas": {"width": 200, "height": 200}, "foreground": {"anchor": "bottom-center"}},
        });
        let job = client.completed(&client.order_with(order).await, JOB).await;
        let output = job.output.as_ref().expect("an output");
        assert!(!output.info.has_alpha && !output.info.has_audio);
        let gif = world.scratch().join("output.gif");
        client.download(&job, &gif).await;
        let pixels = media::pixels(&gif, None, "null", "rgb24");
        assert_eq!(pixels.len(), 200 * 200 * 3 * Clip::SMALL.frames());
        // Above the foreground there is nothing but the picture.
        let corner = &pixels[..3];
        assert!(corner[0] > 240 && corner[1] < 15 && corner[2] < 15, "{corner:?}");

        // A video is no picture, and another's upload is nobody's.
        let stranger = world.client("other", 10.0).await;
        for (client, image_url, reason) in
            [(&client, &video_url, "invalid_file_type"), (&stranger, &image_url, "upload_not_found")]
        {
            let video_url = client.upload(&clip).await;
            let order =
                json!({"video_url": video_url, "model": "light", "bg_type": "image", "bg_image_url": image_url});
            let refused = client.post("/v1/jobs", &order).await;
            refused.is(400, "invalid_request");
            assert_eq!(
                (&refused.json["error"]["reason"], &refused.json["error"]["param"]),
                (&json!(reason), &json!("bg_image_url"))
            );
        }
    })
    .await;
}

fn check_tracks(facts: &Value) {
    let streams = facts["streams"].as_array().unwrap();
    let codec =
        |kind: &str| streams.iter().find(|stream| stream["codec_type"] == kind).map(|stream| &stream["codec_name"]);
    assert_eq!((codec("video"), codec("audio")), (Some(&json!("vp9")), Some(&json!("opus"))));
    let seconds: f64 = facts["format"]["duration"].as_str().unwrap().parse().unwrap();
    assert!((seconds - 1.0).abs() < 0.1, "{seconds} s");
}

/// The bound is a little above what was measured; a broken model or a frame's shift is an order of magnitude beyond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_clip_with_model_human_matches_its_truth() {
    let options = Options { models: Some(models::fetched().canonicalize().unwrap()), ..Options::default() };
    in_a_world(options, async |world| {
        let client = world.first_client();
        let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
        let video_url = client.upload(&samples.join("portrait.mp4")).await;
        let order =
            json!({"video_url": video_url, "model": "human", "bg_type": "transparent", "output_format": "webm"});
        let id = client.order_with(order).await;
        let job = client.completed(&id, JOB).await;
        let webm = world.scratch().join("output.webm");
        client.download(&job, &webm).await;
        let truth = media::pixels(&samples.join("portrait.alpha.mkv"), None, "null", "gray");
        let difference = media::difference(&media::alpha(&webm), &truth) * 1000.0;
        println!("MAD·10³ {difference:.2}");
        assert!(difference < 6.0, "MAD·10³ {difference:.2}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_weights_are_missing_is_refused_with_the_command_that_fetches_them() {
    in_a_world(Options { no_worker: true, ..Options::default() }, async |world| {
        let client = world.client("acme", 10.0).await;
        let video_url = client.upload(&Clip::SMALL.make(world.scratch())).await;
        let refused = client.post("/v1/jobs", &json!({"video_url": video_url, "model": "original"})).await;
        refused.is(400, "invalid_request");
        let message = refused.json["error"]["message"].as_str().unwrap();
        assert!(message.contains("rotoless models fetch original"), "{message}");
        assert_eq!(client.milli_credits().await, [10_000, 0, 0]);
    })
    .await;
}
