//! JSON schemas of wire forms that a derive cannot see: types with a `Serialize` of their own, and fields of requests
//! that are read as plain text first and judged later.
//!
//! Owns: those schemas, for the OpenAPI document of `rotoless-api`. Does not own: the other schemas, which are derived
//! beside their types; the rules themselves (`rotoless-core`), which the document's tests compare with these.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    ArrayBuilder, Discriminator, ObjectBuilder, OneOfBuilder, Ref, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::credits::Credits;
use crate::ids::{Attempt, ClientId, DeliveryId, JobId, Run, UploadId};
use crate::spec::{Background, Fit, Rgb};

/// Names of `bg_type` and `background.type` in requests.
const BACKGROUND_NAMES: [&str; 10] =
    ["transparent", "green", "white", "black", "blue", "custom", "color", "image", "video", "blur"];

fn text(pattern: &str, description: &str, example: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    Schema::from(object.description(Some(description)).examples([example])).into()
}

macro_rules! text_schema {
    ($($name:ident = $pattern:literal, $description:literal, $example:literal;)+) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                text($pattern, $description, $example)
            }
        }
        impl ToSchema for $name {}
    )+};
}

text_schema! {
    JobId = "^job_[0-9a-f]{32}$", "A job.", "job_3f0c1d9ae2b84c56a7d1f00912ab34cd";
    UploadId = "^vid_[0-9a-f]{32}$", "An uploaded file.", "vid_3f0c1d9ae2b84c56a7d1f00912ab34cd";
    DeliveryId = "^evt_[0-9a-f]{32}$", "A webhook event on its way.", "evt_3f0c1d9ae2b84c56a7d1f00912ab34cd";
    ClientId = "^[A-Za-z0-9_-]{1,64}$", "A client of the service, named by the operator.", "acme";
    Rgb = "^#[0-9A-F]{6}$", "A colour.", "#09A246";
}

macro_rules! counter_schema {
    ($($name:ident: $description:literal;)+) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let object = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(u32::MAX));
                Schema::from(object.description(Some($description))).into()
            }
        }
        impl ToSchema for $name {}
    )+};
}

counter_schema! {
    Attempt: "One claim of a job by a worker, counted over all runs.";
    Run: "One start of a job.";
}

impl PartialSchema for Credits {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).multiple_of(Some(0.001));
        Schema::from(object.description(Some("Credits, to the thousandth.")).examples([2.25])).into()
    }
}
impl ToSchema for Credits {}

/// The schema of a closed set of names.
pub(crate) fn of_names(names: &[&str], description: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names.iter().copied()));
    Schema::from(object.description(Some(description.trim()))).into()
}

/// An http(s) URL that a client gives.
pub(crate) enum PublicUrl {}

impl PartialSchema for PublicUrl {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(Type::String).max_length(Some(2048));
        Schema::from(object.format(Some(SchemaFormat::Custom("uri".to_owned())))).into()
    }
}
impl ToSchema for PublicUrl {}

/// What a request calls a background.
pub(crate) enum BackgroundName {}

impl PartialSchema for BackgroundName {
    fn schema() -> RefOr<Schema> {
        of_names(&BACKGROUND_NAMES, "What stands behind the subject. `custom` and `color` are the same.")
    }
}
impl ToSchema for BackgroundName {}

/// A colour as requests may write it.
pub(crate) enum ColorInput {}

impl PartialSchema for ColorInput {
    fn schema() -> RefOr<Schema> {
        let channel = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(255));
        let channels = ArrayBuilder::new().items(channel).min_items(Some(3)).max_items(Some(3));
        let channels =
            channels.description(Some("Red, green, blue: all at most 1 means 0..1, any above 1 means 0..255."));
        let digits = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})$"));
        let form = OneOfBuilder::new().item(channels).item(digits).examples([serde_json::json!([0, 128, 255])]);
        Schema::from(form).into()
    }
}
impl ToSchema for ColorInput {}

impl PartialSchema for Background {
    fn schema() -> RefOr<Schema> {
        let kinds = background_kinds();
        let one_of =
            kinds.iter().fold(OneOfBuilder::new(), |one_of, (_, name, _)| one_of.item(Ref::from_schema_name(*name)));
        let mapping = kinds.iter().map(|(kind, name, _)| (*kind, format!("#/components/schemas/{name}")));
        let discriminator = Discriminator::with_mapping("type", mapping);
        let one_of = one_of.discriminator(Some(discriminator)).description(Some("What stands behind the subject."));
        Schema::from(one_of).into()
    }
}

impl ToSchema for Background {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Background")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Fit".to_owned(), Fit::schema()));
        schemas.push(("Rgb".to_owned(), Rgb::schema()));
        schemas.extend(background_kinds().map(|(_, name, object)| (name.to_owned(), Schema::from(object).into())));
    }
}

/// Value of `type`, name of the schema, the schema.
fn background_kinds() -> [(&'static str, &'static str, ObjectBuilder); 5] {
    let kind = |name: &str, description: &str| {
        let tag = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([name]));
        ObjectBuilder::new().property("type", tag).required("type").description(Some(description))
    };
    let of_file = |object: ObjectBuilder, field: &str| {
        let url = ObjectBuilder::new().schema_type(Type::String).description(Some("Where it was given."));
        object.property(field, url).required(field).property("fit", Ref::from_schema_name("Fit")).required("fit")
    };
    let color = kind("color", "One colour.").property("color", Ref::from_schema_name("Rgb")).required("color");
    [
        ("transparent", "TransparentBackground", kind("transparent", "Nothing: the output carries alpha.")),
        ("color", "ColorBackground", color),
        ("image", "ImageBackground", of_file(kind("image", "A still picture."), "image_url")),
        ("video", "VideoBackground", of_file(kind("video", "A video, looped."), "video_url")),
        ("blur", "BlurBackground", kind("blur", "The source itself, blurred.")),
    ]
}
