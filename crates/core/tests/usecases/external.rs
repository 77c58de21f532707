//! A video at somebody else's URL: one second is held until the worker has measured it.

use rotoless_contract::api::JobRequest;
use rotoless_core::usecase::SubmitError;

use super::world::{PRICE, World};

fn at(world: &World, url: &str) -> JobRequest {
    JobRequest { video_url: Some(url.to_owned()), ..world.request() }
}

/// G-04
#[tokio::test]
async fn the_hold_of_a_video_elsewhere_is_a_second_until_it_was_measured() {
    let world = World::new();
    let request = at(&world, "https://example.com/a.mp4");
    let job = world.submit().create(&world.client, &request, None, None).await.unwrap().job;
    assert_eq!(world.balance().held.0, PRICE.0 / 3);
    assert!(job.warnings.iter().any(|warning| warning.contains("not known yet")), "{:?}", job.warnings);
    let claim = world.claimed(&job.id).await;
    assert!(claim.input.external && claim.input.url == "https://example.com/a.mp4");
    assert_eq!(claim.deadline_seconds, 7200, "nobody knows its length");
    world.probed(&claim, 3000).await.unwrap();
    assert_eq!(world.balance().held, PRICE);
    let digest = world.finish_work(&claim);
    world.report_completed(&claim, &digest).await.unwrap();
    assert_eq!((world.balance().held.0, world.balance().used), (0, PRICE));
}

/// G-27: what can be told without a look-up is told at once, for every URL of a request.
#[tokio::test]
async fn a_url_that_may_not_be_opened_is_refused_when_the_job_is_created() {
    let world = World::new();
    let hook = JobRequest { webhook_url: Some("https://forbidden.example/".to_owned()), ..world.request() };
    for (request, param) in [
        (at(&world, "https://forbidden.example/a.mp4"), "video_url"),
        (at(&world, "http://example.com/a.mp4"), "video_url"),
        (at(&world, "https://user:secret@example.com/a.mp4"), "video_url"),
        (hook, "webhook_url"),
    ] {
        let refused = world.submit().create(&world.client, &request, None, None).await;
        assert!(matches!(&refused, Err(SubmitError::Invalid(invalid)) if invalid.param == Some(param)), "{refused:?}");
    }
    assert_eq!((world.jobs(), world.balance().held.0), (0, 0));
}
