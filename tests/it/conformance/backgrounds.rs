//! Every background, in every form and format, as ordered and as shown on the job; and the composition.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rotoless_contract::OutputFormat;
use serde_json::{Value, json};

use super::{no_worker, picture};
use crate::world::client::{Client, Reply};
use crate::world::in_a_world;
use crate::world::media::Clip;

/// A kind of background: its fields in the flat form and in the object, and how the job shows it.
struct Kind {
    name: &'static str,
    flat: Value,
    object: Value,
    shown: Value,
}

fn kinds(image: &str, video: &str) -> Vec<Kind> {
    let color = |name, hex: &str| Kind {
        name,
        flat: json!({}),
        object: json!({}),
        shown: json!({"type": "color", "color": hex}),
    };
    let custom = |name| Kind {
        name,
        flat: json!({"bg_color": [1, 0.5, 0]}),
        object: json!({"color": "#FF8000"}),
        shown: json!({"type": "color", "color": "#FF8000"}),
    };
    vec![
        Kind { name: "transparent", flat: json!({}), object: json!({}), shown: json!({"type": "transparent"}) },
        color("green", "#09A246"),
        color("white", "#FFFFFF"),
        color("black", "#000000"),
        color("blue", "#0000FF"),
        custom("custom"),
        custom("color"),
        Kind {
            name: "image",
            flat: json!({"bg_image_url": image}),
            object: json!({"image_url": image, "fit": "contain"}),
            shown: json!({"type": "image", "image_url": image}),
        },
        Kind {
            name: "video",
            flat: json!({"bg_video_url": video}),
            object: json!({"video_url": video, "fit": "stretch"}),
            shown: json!({"type": "video", "video_url": video}),
        },
        Kind { name: "blur", flat: json!({}), object: json!({}), shown: json!({"type": "blur"}) },
    ]
}

impl Kind {
    /// The fields of the flat form.
    fn as_flat(&self) -> Value {
        with(json!({"bg_type": self.name}), &self.flat)
    }

    /// The object.
    fn as_object(&self) -> Value {
        with(json!({"type": self.name}), &self.object)
    }

    /// How a job shows it, fitted as `fit` where it can be.
    fn shown(&self, fit: Option<&Value>) -> Value {
        match self.name {
            "image" | "video" => with(self.shown.clone(), &json!({"fit": fit.unwrap_or(&json!("cover"))})),
            _ => self.shown.clone(),
        }
    }
}

/// The fields of both.
fn with(mut one: Value, other: &Value) -> Value {
    one.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    one
}

/// Asks for a job in one of the three ways to have one: a draft, a job that is started by its creation, and a draft
/// whose start says everything.
async fn ask(client: &Client, way: &str, source: &Value, options: &Value) -> Reply {
    let body = with(source.clone(), options);
    match way {
        "draft" => client.post("/v1/jobs", &with(body, &json!({"auto_start": false}))).await,
        "job" => client.post("/v1/jobs", &body).await,
        _ => {
            let draft = client.post("/v1/jobs", &with(source.clone(), &json!({"auto_start": false}))).await.ok();
            client.post(&format!("/v1/jobs/{}/start", draft["id"].as_str().unwrap()), options).await
        }
    }
}

fn check(reply: Reply, way: &str, shown: &Value, what: &str) {
    assert_eq!(reply.status, 200, "{what}: {:#}", reply.json);
    let status = if way == "draft" { "created" } else { "pending" };
    assert_eq!((&reply.json["background"], &reply.json["status"]), (shown, &json!(status)), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_background_in_every_format_and_form_is_what_the_job_shows() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10_000.0).await;
        let clip = client.upload_by_form(&Clip::SMALL.make(world.scratch())).await;
        let image = client.upload_by_form(&picture(world.scratch())).await;
        for format in OutputFormat::ALL {
            let source = json!({"video_url": clip, "model": "light", "output_format": format});
            for kind in kinds(&image, &clip) {
                let fit = kind.object.get("fit");
                // The object wins over flat fields that say something else.
                let other = if kind.name == "white" { "black" } else { "white" };
                let forms = [
                    ("flat", kind.as_flat(), kind.shown(None)),
                    ("object", json!({"background": kind.as_object()}), kind.shown(fit)),
                    ("both", json!({"bg_type": other, "background": kind.as_object()}), kind.shown(fit)),
                ];
                for (form, options, shown) in forms {
                    // A start reads the same fields by the same code: once a kind is enough.
                    let ways: &[&str] = if form == "object" { &["draft", "job", "start"] } else { &["draft", "job"] };
                    for way in ways {
                        let what = format!("{} as {form} in {format} by a {way}", kind.name);
                        let reply = ask(&client, way, &source, &options).await;
                        if kind.name == "transparent" && *format == OutputFormat::Mp4 {
                            reply.is(400, "invalid_request");
                        } else {
                            check(reply, way, &shown, &what);
                        }
                    }
                }
            }
            let left_out = ask(&client, "job", &source, &json!({})).await;
            let shown = if format.has_alpha() {
                json!({"type": "transparent"})
            } else {
                json!({"type": "color", "color": "#09A246"})
            };
            check(left_out, "job", &shown, &format!("nothing in {format}"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_colour_is_read_in_each_spelling_and_in_no_other() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let clip = client.upload_by_form(&Clip::SMALL.make(world.scratch())).await;
        let source = json!({"video_url": clip, "model": "light"});
        let forms = |color: &Value| {
            let object = json!({"type": "color", "color": color});
            [
                json!({"bg_type": "custom", "bg_color": color}),
                json!({"bg_type": "color", "bg_color": color}),
                json!({"background": object}),
            ]
        };
        for (color, hex) in [
            (json!([0, 0.5, 1]), "#0080FF"),
            (json!([0.0, 0.0, 0.0]), "#000000"),
            (json!([1, 1, 1]), "#FFFFFF"),
            (json!([0.035, 0.635, 0.274]), "#09A246"),
            (json!([0, 128, 255]), "#0080FF"),
            (json!([2, 0, 0]), "#020000"),
            (json!("#08f"), "#0088FF"),
            (json!("#08F"), "#0088FF"),
            (json!("#0080ff"), "#0080FF"),
            (json!("#0080FF"), "#0080FF"),
        ] {
            for options in forms(&color) {
                let shown = json!({"type": "color", "color": hex});
                check(ask(&client, "draft", &source, &options).await, "draft", &shown, &options.to_string());
            }
        }
        for color in [
            json!([]),
            json!([0, 0]),
            json!([0, 0, 0, 0]),
            json!([0, 0, 256]),
            json!([-0.1, 0, 0]),
            json!(["0", "0", "0"]),
            json!([null, 0, 0]),
            json!("0080FF"),
            json!("#08"),
            json!("#0080F"),
            json!("#0080FF00"),
            json!("#ＧＧＧ"),
            json!("green"),
            json!("rgb(0,0,0)"),
            json!(""),
            json!(5),
            json!(true),
            json!({}),
            json!(null),
        ] {
            for options in forms(&color) {
                ask(&client, "draft", &source, &options).await.is(400, "invalid_request");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_that_lacks_what_it_needs_is_refused_with_the_field_named() {
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 10.0).await;
        let clip = client.upload_by_form(&Clip::SMALL.make(world.scratch())).await;
        let source = json!({"video_url": clip, "model": "light"});
        for (options, param) in [
            (json!({"bg_type": "custom"}), "bg_color"),
            (json!({"bg_type": "color"}), "bg_color"),
            (json!({"bg_type": "image"}), "bg_image_url"),
            (json!({"bg_type": "image", "bg_image_url": ""}), "bg_image_url"),
            (json!({"bg_type": "image", "bg_video_url": clip}), "bg_image_url"),
            (json!({"bg_type": "video"}), "bg_video_url"),
            (json!({"bg_type": "plaid"}), "bg_type"),
            (json!({"bg_type": "Green"}), "bg_type"),
            (json!({"bg_type": ""}), "bg_type"),
            (json!({"bg_type": 5}), "bg_type"),
            (json!({"background": {"type": "color"}}), "background.color"),
            (json!({"background": {"type": "image"}}), "background.image_url"),
            (json!({"background": {"type": "video"}}), "background.video_url"),
            (json!({"background": {"type": "plaid"}}), "background.type"),
            (json!({"background": {}}), "background"),
            (json!({"background": "green"}), "background"),
            (json!({"background": {"type": "image", "image_url": clip, "fit": "zoom"}}), "background"),
            // The object wins also where it is the one that lacks something.
            (json!({"bg_type": "green", "background": {"type": "color"}}), "background.color"),
        ] {
            for way in ["draft", "job", "start"] {
                let refused = ask(&client, way, &source, &options).await;
                refused.is(400, "invalid_request");
                assert_eq!(refused.json["error"]["param"], param, "{way}: {options}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composition_is_shown_with_its_defaults_and_bounded() {
    const ANCHORS: [&str; 9] = [
        "top-left",
        "top-center",
        "top-right",
        "center-left",
        "center",
        "center-right",
        "bottom-left",
        "bottom-center",
        "bottom-right",
    ];
    in_a_world(no_worker(), async |world| {
        let client = world.client("acme", 1000.0).await;
        let clip = client.upload_by_form(&Clip::SMALL.make(world.scratch())).await;
        let source = json!({"video_url": clip, "model": "light"});
        let canvas = json!({"width": 640, "height": 360});
        let alone = ask(&client, "job", &source, &json!({"composition": {"canvas": canvas}})).await.ok();
        assert_eq!(
            alone["composition"],
            json!({"width": 640, "height": 360, "anchor": "center", "scale": 1.0, "offset": [0, 0]})
        );
        for anchor in ANCHORS {
            let placed = json!({"anchor": anchor, "scale": 0.5, "offset": {"x": -10, "y": 20}});
            let options = json!({"composition": {"canvas": canvas, "foreground": placed}});
            for way in ["draft", "job", "start"] {
                let shown = ask(&client, way, &source, &options).await.ok();
                assert_eq!(
                    shown["composition"],
                    json!({"width": 640, "height": 360, "anchor": anchor, "scale": 0.5, "offset": [-10, 20]})
                );
            }
        }
        let sized = |width: i64, height: i64| json!({"canvas": {"width": width, "height": height}});
        let placed = |foreground: Value| json!({"canvas": canvas, "foreground": foreground});
        for composition in [
            sized(15, 16),
            sized(16, 17),
            sized(0, 0),
            sized(-16, 16),
            sized(4098, 16),
            json!({"canvas": {"width": 640}}),
            json!({"foreground": {}}),
            json!({}),
            json!([]),
            placed(json!({"anchor": "middle"})),
            placed(json!({"anchor": "left-top"})),
            placed(json!({"scale": 0})),
            placed(json!({"scale": -1})),
            placed(json!({"scale": 1e9})),
            placed(json!({"scale": "large"})),
            placed(json!({"offset": {"x": 100_000, "y": 0}})),
            placed(json!({"offset": {"x": 0, "y": i64::MIN}})),
            placed(json!({"offset": "left"})),
        ] {
            let refused = ask(&client, "draft", &source, &json!({"composition": composition})).await;
            refused.is(400, "invalid_request");
            let param = refused.json["error"]["param"].as_str().unwrap();
            assert!(param.starts_with("composition"), "{composition}: {param}");
        }
    })
    .await;
}
