//! Where a file comes from, as it is written.

use serde::Deserialize;

use super::findings::{Findings, is_npm_name, is_plain_name, is_version};
use super::{Content, InputSize, InputSpec, Package, PackageIndex, Source, WheelTags};
use crate::onnx_writer::{Change, Rewriting};
use crate::tfjs::{Conversion, GraphInput};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    index: Option<String>,
    package: Option<String>,
    version: Option<String>,
    python: Option<String>,
    platform: Option<String>,
    sha256: Option<String>,
    member: Option<String>,
    rewriting: Option<RawRewriting>,
    graph: Option<String>,
    weights: Option<Vec<String>>,
    conversion: Option<Conversion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRewriting {
    sha256: Option<String>,
    #[serde(default)]
    changes: Vec<Change>,
    #[serde(default)]
    outputs: Vec<String>,
}

pub(super) fn parse(raw: RawSource, found: &mut Findings<'_>) -> Option<Source> {
    #[derive(Clone, Copy)]
    enum Index {
        Npm,
        Pypi,
    }
    let index = found.one_of("source.index", raw.index.as_deref(), &[("npm", Index::Npm), ("pypi", Index::Pypi)]);
    let allowed = if matches!(index, Some(Index::Npm)) { is_npm_name } else { is_plain_name };
    let name = found.text("source.package", raw.package, "the name of a package", allowed);
    let version = found.text("source.version", raw.version, "an exact version", is_version);
    let archive_sha256 = found.parsed("source.sha256", raw.sha256);
    let wheel = wheel_tags(raw.python, raw.platform, found);
    let content = content(raw.member, raw.rewriting, (raw.graph, raw.weights, raw.conversion), found);
    let index = match index? {
        Index::Pypi => PackageIndex::Pypi { wheel: wheel? },
        Index::Npm if wheel.as_ref().is_some_and(Option::is_none) => PackageIndex::Npm,
        Index::Npm => {
            found.add("source.platform", "is for pypi");
            return None;
        }
    };
    Some(Source {
        package: Package { index, name: name?, version: version? },
        archive_sha256: archive_sha256?,
        content: content?,
    })
}

#[expect(clippy::option_option, reason = "wrong, absent and present are three cases")]
fn wheel_tags(python: Option<String>, platform: Option<String>, found: &mut Findings<'_>) -> Option<Option<WheelTags>> {
    if python.is_none() && platform.is_none() {
        return Some(None);
    }
    let python = found.text("source.python", python, "a version", is_version);
    let platform = found.text("source.platform", platform, "a platform tag", is_plain_name);
    Some(Some(WheelTags { python: python?, platform: platform? }))
}

fn content(
    member: Option<String>,
    rewriting: Option<RawRewriting>,
    tfjs: (Option<String>, Option<Vec<String>>, Option<Conversion>),
    found: &mut Findings<'_>,
) -> Option<Content> {
    match (member, rewriting, tfjs) {
        (member, None, (None, None, None)) => Some(Content::File { member: found.member("source.member", member)? }),
        (member, Some(rewriting), (None, None, None)) => rewritten(member, rewriting, found),
        (None, None, (graph, weights, conversion)) => tfjs_graph(graph, weights, conversion, found),
        (_, _, _) => {
            found.add("source.member", "and rewriting go without graph, weights and conversion");
            None
        }
    }
}

fn rewritten(member: Option<String>, raw: RawRewriting, found: &mut Findings<'_>) -> Option<Content> {
    let member = found.member("source.member", member);
    let sha256 = found.parsed("source.rewriting.sha256", raw.sha256);
    let mut name = |name: String| found.name_of_tensor("source.rewriting.outputs", Some(name));
    let outputs: Option<Vec<_>> = raw.outputs.into_iter().map(&mut name).collect();
    let rewriting = Rewriting { changes: raw.changes, outputs: outputs? };
    if rewriting.outputs.is_empty() {
        found.add("source.rewriting.outputs", "is missing");
    }
    Some(Content::Rewritten { member: member?, sha256: sha256?, rewriting })
}

fn tfjs_graph(
    graph: Option<String>,
    weights: Option<Vec<String>>,
    conversion: Option<Conversion>,
    found: &mut Findings<'_>,
) -> Option<Content> {
    let graph = found.member("source.graph", graph);
    let weights = found.required("source.weights", weights).and_then(|shards| {
        shards.into_iter().map(|shard| found.member("source.weights", Some(shard))).collect::<Option<Vec<_>>>()
    });
    let conversion = found.required("source.conversion", conversion);
    Some(Content::TfjsGraph { graph: graph?, weights: weights?, conversion: conversion? })
}

/// What a conversion left out because of its promise, the model must never need.
pub(super) fn check_promise(source: &Source, input: &InputSpec, found: &mut Findings<'_>) {
    let Content::TfjsGraph { conversion, .. } = &source.content else { return };
    let is_fed = |own: &&GraphInput| own.name.as_deref().unwrap_or(&own.node) == input.name;
    let promised = conversion.inputs.iter().find(is_fed).and_then(|own| own.multiple_of).unwrap_or(1);
    let sides = match input.size {
        InputSize::Fixed { width, height, .. } => [width, height],
        InputSize::Free { multiple_of, .. } => [multiple_of; 2],
    };
    if promised == 0 || sides.iter().any(|side| !side.is_multiple_of(promised)) {
        found.add("source.conversion", "promises multiples that the input does not keep");
    }
}
