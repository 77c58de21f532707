//! A registry as it is written, and the way from there to a valid one.
//!
//! Invariant: whatever is wrong in any entry is collected, so that an operator sees all of it at once.

use serde::Deserialize;

use super::findings::{Findings, is_plain_name, is_version};
use super::grounding::{self, RawGrounding};
use super::raw_source::{self, RawSource};
use super::{
    Activation, ChannelOrder, Content, Family, InputSize, InputSpec, Layout, MatteSpec, ModelEntry, OutputSpec,
    PictureFit, Problem, Registry, RegistryError, RuntimeBuild, RuntimeEntry, RuntimePart, Source, StateSpec, Work,
};

/// Longest side of a picture that a model may be fed, in pixels.
const MAX_SIDE: u32 = 8192;
const MAX_STATES: usize = 64;
/// All frames between two that the model sees are in memory at once.
const MAX_EVERY: u32 = 12;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    #[serde(default)]
    model: Vec<toml::Value>,
    #[serde(default)]
    runtime: Vec<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    name: Option<String>,
    role: Option<String>,
    family: Option<String>,
    #[serde(default)]
    default: bool,
    file: Option<String>,
    sha256: Option<String>,
    licence: Option<String>,
    notice: Option<String>,
    published: Option<String>,
    source: Option<RawSource>,
    input: Option<RawInput>,
    output: Option<RawOutput>,
    #[serde(default)]
    state: Vec<RawState>,
    downsample_ratio: Option<String>,
    every: Option<u32>,
    closer_looks: Option<u32>,
    grounding: Option<RawGrounding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInput {
    name: Option<String>,
    size: Option<[u32; 2]>,
    fit: Option<String>,
    multiple_of: Option<u32>,
    long_side: Option<u32>,
    close_up_long_side: Option<u32>,
    layout: Option<String>,
    channels: Option<String>,
    scale: Option<f32>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutput {
    matte: Option<String>,
    activation: Option<String>,
    foreground: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawState {
    input: Option<String>,
    output: Option<String>,
    initial: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRuntime {
    os: Option<String>,
    arch: Option<String>,
    version: Option<String>,
    licence: Option<String>,
    build: Option<String>,
    file: Option<String>,
    sha256: Option<String>,
    source: Option<RawSource>,
    #[serde(default)]
    part: Vec<RawPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPart {
    file: Option<String>,
    sha256: Option<String>,
    member: Option<String>,
}

pub(super) fn parse(origin: &str, text: &str) -> Result<Registry, RegistryError> {
    let raw: RawRegistry = toml::from_str(text)
        .map_err(|error| RegistryError::Syntax { origin: origin.to_owned(), source: Box::new(error) })?;
    let mut problems = Vec::new();
    let models: Vec<_> =
        raw.model.into_iter().enumerate().filter_map(|(index, value)| model(index, value, &mut problems)).collect();
    let runtimes: Vec<_> =
        raw.runtime.into_iter().enumerate().filter_map(|(index, value)| runtime(index, value, &mut problems)).collect();
    problems.extend(clashes(&models, &runtimes));
    if problems.is_empty() {
        Ok(Registry { models, runtimes })
    } else {
        Err(RegistryError::Invalid { origin: origin.to_owned(), problems })
    }
}

/// What two entries cannot both have.
pub(super) fn clashes(models: &[ModelEntry], runtimes: &[RuntimeEntry]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, entry) in models.iter().enumerate() {
        let mut found = Findings { entry: format!("model {}", entry.name), problems: &mut problems };
        let before = &models[..index];
        if before.iter().any(|other| other.name == entry.name) {
            found.add("name", "is used twice");
        }
        if let Some(other) = before.iter().find(|other| other.role.is_some() && other.role == entry.role) {
            found.add("role", format!("is filled by {} already", other.name));
        }
        if let Some(other) = before.iter().find(|other| other.file.name == entry.file.name && other.file != entry.file)
        {
            found.add("file", format!("is also {}'s, with another sha256", other.name));
        }
    }
    for (index, entry) in runtimes.iter().enumerate() {
        if runtimes[..index].iter().any(|other| other.is_for_the_same(entry)) {
            let entry = format!("runtime {}/{}", entry.os, entry.arch);
            Findings { entry, problems: &mut problems }.add("", "is there twice");
        }
    }
    problems
}

fn model(index: usize, value: toml::Value, problems: &mut Vec<Problem>) -> Option<ModelEntry> {
    let called = value.get("name").and_then(toml::Value::as_str);
    let entry = called.map_or_else(|| format!("model #{}", index + 1), |name| format!("model {name}"));
    let mut found = Findings { entry, problems };
    let raw: RawModel = value.try_into().map_err(|error| found.add("", describe(&error))).ok()?;

    let name = found.text("name", raw.name, "lower-case letters, digits and dashes", |text| {
        text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') && !text.starts_with('-')
    });
    let role = raw.role.map(|role| found.parsed("role", Some(role)));
    let families: Vec<_> = Family::ALL.iter().map(|family| (family.as_str(), *family)).collect();
    let family = found.one_of("family", raw.family.as_deref(), &families);
    let file = found.file(raw.file, raw.sha256);
    let licence = found.text("licence", raw.licence, "an SPDX expression", |text| !text.trim().is_empty());
    let source = raw.source.map(|source| raw_source::parse(source, &mut found));
    let input = found.required("input", raw.input).and_then(|input| self::input(input, &mut found));
    if let (Some(Some(source)), Some(input)) = (&source, &input) {
        raw_source::check_promise(source, input, &mut found);
    }
    let work = match family {
        Some(Family::Grounded) => grounded(raw.grounding, raw.output.is_none() && raw.state.is_empty(), &mut found),
        Some(Family::Still | Family::Recurrent) | None => {
            if raw.grounding.is_some() {
                found.add("grounding", "is for the family grounded");
            }
            let looks = closer_looks(raw.closer_looks, family, &mut found);
            let (output, states, every) = (raw.output, raw.state, raw.every);
            let raw = RawMatte { output, states, downsample_ratio: raw.downsample_ratio, every, closer_looks: looks };
            matte(raw, family, &mut found)
        }
    };

    Some(ModelEntry {
        name: name?,
        role: optional(role)?,
        in_default_set: raw.default,
        licence: licence?,
        notice: raw.notice,
        published: raw.published,
        file: file?,
        source: optional(source)?,
        input: input?,
        work: work?,
    })
}

/// What the families still and recurrent have of their own.
struct RawMatte {
    output: Option<RawOutput>,
    states: Vec<RawState>,
    downsample_ratio: Option<String>,
    every: Option<u32>,
    closer_looks: u32,
}

fn matte(raw: RawMatte, family: Option<Family>, found: &mut Findings<'_>) -> Option<Work> {
    let output = found.required("output", raw.output).and_then(|output| self::output(output, found));
    let states = self::states(raw.states, family, found);
    let ratio = raw.downsample_ratio.map(|name| found.name_of_tensor("downsample_ratio", Some(name)));
    let every = raw.every.unwrap_or(1);
    if !(1..=MAX_EVERY).contains(&every) {
        found.add("every", format!("must be 1 to {MAX_EVERY}"));
    } else if every > 1 && family == Some(Family::Recurrent) {
        found.add("every", "is for the family still");
    }
    let closer_looks = raw.closer_looks;
    let (output, states, downsample_ratio) = (output?, states?, optional(ratio)?);
    Some(Work::Matte(MatteSpec { output, states, downsample_ratio, every, closer_looks }))
}

fn closer_looks(looks: Option<u32>, family: Option<Family>, found: &mut Findings<'_>) -> u32 {
    const MOST: u32 = 8;
    let looks = looks.unwrap_or_default();
    if looks > MOST || (looks > 0 && family == Some(Family::Recurrent)) {
        found.add("closer_looks", "is at most 8, and for the family still");
    }
    looks
}

fn grounded(raw: Option<RawGrounding>, is_all: bool, found: &mut Findings<'_>) -> Option<Work> {
    if !is_all {
        found.add("output", "and state are for the families still and recurrent");
    }
    found.required("grounding", raw).and_then(|raw| grounding::parse(raw, found)).map(Work::Ground)
}

fn runtime(index: usize, value: toml::Value, problems: &mut Vec<Problem>) -> Option<RuntimeEntry> {
    let called = |key| value.get(key).and_then(toml::Value::as_str);
    let entry = match (called("os"), called("arch")) {
        (Some(os), Some(arch)) => format!("runtime {os}/{arch}"),
        (_, _) => format!("runtime #{}", index + 1),
    };
    let mut found = Findings { entry, problems };
    let raw: RawRuntime = value.try_into().map_err(|error| found.add("", describe(&error))).ok()?;

    let os = found.text("os", raw.os, "a plain word", is_plain_name);
    let arch = found.text("arch", raw.arch, "a plain word", is_plain_name);
    let version = found.text("version", raw.version, "a version", is_version);
    let licence = found.text("licence", raw.licence, "an SPDX expression", |text| !text.trim().is_empty());
    let file = found.file(raw.file, raw.sha256);
    let source = raw.source.map(|source| raw_source::parse(source, &mut found));
    if let Some(Some(Source { content: Content::TfjsGraph { .. }, .. })) = &source {
        found.add("source.graph", "is for models");
    }
    let builds = [("cpu", RuntimeBuild::Cpu), ("gpu", RuntimeBuild::Gpu)];
    let build = found.one_of("build", Some(raw.build.as_deref().unwrap_or("cpu")), &builds);
    let source = optional(source);
    let parts: Vec<_> = raw.part.into_iter().map(|raw| part(raw, source.as_ref(), &mut found)).collect();
    Some(RuntimeEntry {
        build: build?,
        os: os?,
        arch: arch?,
        version: version?,
        licence: licence?,
        file: file?,
        source: source?,
        parts: parts.into_iter().collect::<Option<_>>()?,
    })
}

/// `whole` is what the runtime's own source came to: a part is another file of the same archive.
fn part(raw: RawPart, whole: Option<&Option<Source>>, found: &mut Findings<'_>) -> Option<RuntimePart> {
    let file = found.file(raw.file, raw.sha256);
    let source = match (whole?, raw.member) {
        (None, None) => None,
        (Some(whole), member) => {
            let content = Content::File { member: found.member("part.member", member)? };
            Some(Source { content, ..whole.clone() })
        }
        (None, Some(_)) => {
            found.add("part.member", "goes with a source");
            return None;
        }
    };
    Some(RuntimePart { file: file?, source })
}

/// A field that may be absent but not wrong: absent gives `Some(None)`, wrong gives `None`.
#[expect(clippy::option_option, reason = "the three cases are exactly these")]
fn optional<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    field.map_or(Some(None), |value| value.map(Some))
}

fn input(raw: RawInput, found: &mut Findings<'_>) -> Option<InputSpec> {
    let name = found.name_of_tensor("input.name", raw.name);
    let size = match (raw.size, raw.long_side) {
        (Some(_), Some(_)) => {
            found.add("input.size", "goes without long_side");
            None
        }
        (Some([width, height]), None) => {
            for side in [width, height] {
                check_side("input.size", side, found);
            }
            let fits = [("stretch", PictureFit::Stretch), ("contain", PictureFit::Contain)];
            let fit = found.one_of("input.fit", Some(raw.fit.as_deref().unwrap_or("stretch")), &fits)?;
            Some(InputSize::Fixed { width, height, fit })
        }
        (None, long_side) => free_size(raw.multiple_of, long_side, raw.close_up_long_side, found),
    };
    let layout = raw.layout.as_deref().unwrap_or("nchw");
    let layout = found.one_of("input.layout", Some(layout), &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)]);
    let channels = raw.channels.as_deref().unwrap_or("rgb");
    let channels =
        found.one_of("input.channels", Some(channels), &[("rgb", ChannelOrder::Rgb), ("bgr", ChannelOrder::Bgr)]);
    let (scale, mean, std) =
        (raw.scale.unwrap_or(1.0 / 255.0), raw.mean.unwrap_or([0.0; 3]), raw.std.unwrap_or([1.0; 3]));
    if !(scale.is_finite() && scale > 0.0) {
        found.add("input.scale", "must be a positive number");
    }
    if mean.iter().any(|value| !value.is_finite()) {
        found.add("input.mean", "must be numbers");
    }
    if std.iter().any(|value| !(value.is_finite() && *value > 0.0)) {
        found.add("input.std", "must be positive numbers");
    }
    Some(InputSpec { name: name?, size: size?, layout: layout?, channels: channels?, scale, mean, std })
}

fn free_size(
    multiple_of: Option<u32>,
    long_side: Option<u32>,
    close_up: Option<u32>,
    found: &mut Findings<'_>,
) -> Option<InputSize> {
    let multiple_of = multiple_of.unwrap_or(1);
    check_side("input.multiple_of", multiple_of, found);
    let long_side = found.required("input.long_side", long_side);
    let close_up_long_side = close_up.or(long_side)?;
    let long_side = long_side?;
    check_side("input.long_side", long_side, found);
    check_side("input.close_up_long_side", close_up_long_side, found);
    if long_side < multiple_of || close_up_long_side < multiple_of {
        found.add("input.multiple_of", "must not be larger than the sides");
    }
    Some(InputSize::Free { multiple_of, long_side, close_up_long_side })
}

fn check_side(field: &str, side: u32, found: &mut Findings<'_>) {
    if !(1..=MAX_SIDE).contains(&side) {
        found.add(field, format!("must be 1 to {MAX_SIDE}"));
    }
}

fn output(raw: RawOutput, found: &mut Findings<'_>) -> Option<OutputSpec> {
    let matte = found.name_of_tensor("output.matte", raw.matte);
    let activation = activation("output.activation", raw.activation.as_deref(), found);
    let foreground = raw.foreground.map(|name| found.name_of_tensor("output.foreground", Some(name)));
    Some(OutputSpec { matte: matte?, activation: activation?, foreground: optional(foreground)? })
}

pub(super) fn activation(field: &str, word: Option<&str>, found: &mut Findings<'_>) -> Option<Activation> {
    let words = [("none", Activation::None), ("sigmoid", Activation::Sigmoid)];
    found.one_of(field, Some(word.unwrap_or("none")), &words)
}

fn states(raw: Vec<RawState>, family: Option<Family>, found: &mut Findings<'_>) -> Option<Vec<StateSpec>> {
    match family? {
        Family::Recurrent if raw.is_empty() => found.add("state", "is missing: the family is recurrent"),
        Family::Still if !raw.is_empty() => found.add("state", "is for the family recurrent"),
        Family::Still | Family::Recurrent | Family::Grounded => {}
    }
    if raw.len() > MAX_STATES {
        found.add("state", format!("must be at most {MAX_STATES}"));
    }
    let state = |raw: RawState| {
        let input = found.name_of_tensor("state.input", raw.input);
        let output = found.name_of_tensor("state.output", raw.output);
        let initial = raw.initial.unwrap_or_else(|| vec![1; 4]);
        // A first state is zeros, so as a rule one number that is broadcast; a megabyte is generous.
        let values = initial.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        if initial.len() > 8 || !values.is_some_and(|values| (1..=1 << 18).contains(&values)) {
            found.add("state.initial", "must be a small shape");
        }
        Some(StateSpec { input: input?, output: output?, initial })
    };
    raw.into_iter().map(state).collect::<Vec<_>>().into_iter().collect()
}

/// One line of a TOML error: an operator gets the entry's name with it, so the excerpt of the text is not needed.
fn describe(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}
