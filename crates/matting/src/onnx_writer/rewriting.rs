//! Changes of ONNX files that others wrote.
//!
//! Owns: which changes there are, and how each is made. Does not own: which file is changed how (`registry`), what comes
//! of it (its SHA-256 is pinned there).
//! Invariants: whatever is not part of a change is copied byte by byte, known or not; the same file gives the same
//! bytes; messages are looked into to a fixed depth, so bytes that are no model give an error, soon.

use std::collections::HashSet;

use serde::Deserialize;

use super::wire::{Field, Malformed, Message, fields};

/// What is made of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewriting {
    /// Changes of nodes.
    pub changes: Vec<Change>,
    /// The outputs that are kept; what only others need goes with them.
    pub outputs: Vec<String>,
}

/// A change of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// `pytorch_half_pixel` in a `Resize` becomes `half_pixel`, which ONNX Runtime knows in its blocked layout. The two
    /// are the same wherever the result is longer than one pixel; whoever asks for the change knows that it is.
    HalfPixel,
}

/// A file that cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// It is no ONNX file.
    #[error("not an ONNX file")]
    Malformed,
    /// An output that shall be kept is not there.
    #[error("there is no output {0:?}")]
    NoSuchOutput(String),
    /// A node has a graph of its own, which may take any value of the one around it.
    #[error("there are graphs within the graph")]
    NestedGraph,
}

impl From<Malformed> for RewriteError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Numbers of fields.
mod number {
    /// Of `ModelProto`.
    pub(super) const GRAPH: u64 = 7;
    /// Of `GraphProto`.
    pub(super) const NODE: u64 = 1;
    pub(super) const INITIALIZER: u64 = 5;
    pub(super) const INPUT: u64 = 11;
    pub(super) const OUTPUT: u64 = 12;
    pub(super) const VALUE: u64 = 13;
    /// Of `NodeProto`.
    pub(super) const NODE_INPUT: u64 = 1;
    pub(super) const NODE_OUTPUT: u64 = 2;
    pub(super) const OP: u64 = 4;
    pub(super) const ATTRIBUTE: u64 = 5;
    /// Of `AttributeProto`.
    pub(super) const ATTRIBUTE_NAME: u64 = 1;
    pub(super) const TEXT: u64 = 4;
    pub(super) const NESTED: [u64; 2] = [6, 11];
    /// Of `ValueInfoProto` and of `TensorProto`.
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const TENSOR_NAME: u64 = 8;
}

/// The file, changed.
///
/// # Errors
/// It is no ONNX file, or not one that can be changed so.
pub fn rewrite(model: &[u8], rewriting: &Rewriting) -> Result<Vec<u8>, RewriteError> {
    let mut written = Message::new();
    let mut graphs = 0;
    for field in fields(model) {
        let field = field?;
        match field {
            Field { number: number::GRAPH, bytes: Some(graph), .. } => {
                graphs += 1;
                written.message(number::GRAPH, &rewritten_graph(graph, rewriting)?);
            }
            Field { .. } => {
                written.copy(&field);
            }
        }
    }
    if graphs == 1 { Ok(written.into_bytes()) } else { Err(RewriteError::Malformed) }
}

fn rewritten_graph(graph: &[u8], rewriting: &Rewriting) -> Result<Message, RewriteError> {
    let kept = Kept::of(graph, &rewriting.outputs)?;
    let mut written = Message::new();
    for field in fields(graph) {
        let field = field?;
        let Some(bytes) = field.bytes else {
            written.copy(&field);
            continue;
        };
        match field.number {
            number::NODE => {
                if kept.needs(bytes)? {
                    written.message(number::NODE, &rewritten_node(bytes, rewriting)?);
                }
            }
            number::INITIALIZER | number::INPUT | number::OUTPUT | number::VALUE => {
                if kept.has(field.number, bytes)? {
                    written.copy(&field);
                }
            }
            _ => {
                written.copy(&field);
            }
        }
    }
    Ok(written)
}

/// What the kept outputs depend on.
struct Kept<'g> {
    outputs: HashSet<&'g [u8]>,
    values: HashSet<&'g [u8]>,
    initializers: HashSet<&'g [u8]>,
}

impl<'g> Kept<'g> {
    fn of(graph: &'g [u8], outputs: &'g [String]) -> Result<Self, RewriteError> {
        let outputs: HashSet<_> = outputs.iter().map(String::as_bytes).collect();
        let mut kept = Self { values: outputs.clone(), outputs, initializers: HashSet::new() };
        let mut nodes = Vec::new();
        let mut missing = kept.outputs.clone();
        for field in fields(graph) {
            match field? {
                Field { number: number::NODE, bytes: Some(node), .. } => nodes.push(node),
                Field { number: number::INITIALIZER, bytes: Some(tensor), .. } => {
                    kept.initializers.extend(texts(tensor, number::TENSOR_NAME)?);
                }
                Field { number: number::OUTPUT, bytes: Some(value), .. } => {
                    for name in texts(value, number::VALUE_NAME)? {
                        missing.remove(name);
                    }
                }
                Field { .. } => {}
            }
        }
        if let Some(name) = missing.into_iter().min() {
            return Err(RewriteError::NoSuchOutput(String::from_utf8_lossy(name).into_owned()));
        }
        // In an ONNX file a node comes after those whose values it takes.
        for node in nodes.into_iter().rev() {
            if kept.needs(node)? {
                kept.values.extend(texts(node, number::NODE_INPUT)?);
            }
        }
        Ok(kept)
    }

    fn needs(&self, node: &[u8]) -> Result<bool, RewriteError> {
        Ok(texts(node, number::NODE_OUTPUT)?.iter().any(|name| self.values.contains(name)))
    }

    /// Whether a value or tensor of the graph stays.
    fn has(&self, field: u64, value: &[u8]) -> Result<bool, RewriteError> {
        let name = if field == number::INITIALIZER { number::TENSOR_NAME } else { number::VALUE_NAME };
        let stays = |name: &&[u8]| match field {
            number::OUTPUT => self.outputs.contains(name),
            // Old files list tensors among the inputs as well; a real input stays, needed or not.
            number::INPUT => self.values.contains(name) || !self.initializers.contains(name),
            _ => self.values.contains(name),
        };
        Ok(texts(value, name)?.iter().all(stays))
    }
}

fn rewritten_node(node: &[u8], rewriting: &Rewriting) -> Result<Message, RewriteError> {
    let is_resize = texts(node, number::OP)?.iter().any(|op| op == b"Resize");
    let mut written = Message::new();
    for field in fields(node) {
        let field = field?;
        match field {
            Field { number: number::ATTRIBUTE, bytes: Some(attribute), .. } => {
                for own in fields(attribute) {
                    if number::NESTED.contains(&own?.number) {
                        return Err(RewriteError::NestedGraph);
                    }
                }
                let changed = if is_resize { rewritten_attribute(attribute, rewriting)? } else { None };
                match changed {
                    Some(changed) => written.message(number::ATTRIBUTE, &changed),
                    None => written.copy(&field),
                };
            }
            Field { .. } => {
                written.copy(&field);
            }
        }
    }
    Ok(written)
}

/// An attribute of a `Resize`, if it is changed.
fn rewritten_attribute(attribute: &[u8], rewriting: &Rewriting) -> Result<Option<Message>, RewriteError> {
    let is_mode = texts(attribute, number::ATTRIBUTE_NAME)?.contains(&b"coordinate_transformation_mode".as_slice());
    let is_meant = texts(attribute, number::TEXT)?.contains(&b"pytorch_half_pixel".as_slice());
    if !(rewriting.changes.contains(&Change::HalfPixel) && is_mode && is_meant) {
        return Ok(None);
    }
    let mut written = Message::new();
    for field in fields(attribute) {
        match field? {
            Field { number: number::TEXT, .. } => written.text(number::TEXT, "half_pixel"),
            field @ Field { .. } => written.copy(&field),
        };
    }
    Ok(Some(written))
}

/// The texts of a message's fields of that number.
fn texts(message: &[u8], number: u64) -> Result<Vec<&[u8]>, RewriteError> {
    let mut texts = Vec::new();
    for field in fields(message) {
        let field = field?;
        if field.number == number {
            texts.extend(field.bytes);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx_writer::{Attribute, Dim, GraphWriter, Tensor};
    use crate::test_runtime::{Array, load, run};

    /// Two doublings, one behind the other, as PyTorch writes them, and an output for each.
    fn published() -> Vec<u8> {
        let mut graph = GraphWriter::new();
        let named = |name: &str| Dim::Named(name.to_owned());
        let input = graph.input("in", &[Dim::Fixed(1), Dim::Fixed(2), named("height"), named("width")]);
        let attributes = [
            ("coordinate_transformation_mode", Attribute::Text("pytorch_half_pixel")),
            ("mode", Attribute::Text("linear")),
        ];
        let scales = graph.constant(Tensor::floats(&[1.0, 1.0, 2.0, 2.0]));
        let first = graph.node("Resize", &[&input, "", &scales], &attributes);
        let large = Tensor { shape: vec![40, 1, 1], ..Tensor::floats(&[0.25; 40]) };
        let large = graph.constant(large);
        let wide = graph.node("Concat", &[first.as_str(); 20], &[("axis", Attribute::Int(1))]);
        let side = graph.node("Mul", &[&wide, &large], &[]);
        let second = graph.node("Resize", &[&first, "", &scales], &attributes);
        let shape = |channels| [Dim::Fixed(1), Dim::Fixed(channels), named("h"), named("w")];
        graph.output(&second, "matte", &shape(2));
        graph.output(&side, "side", &shape(40));
        graph.finish()
    }

    fn occurrences(model: &[u8], text: &str) -> usize {
        model.windows(text.len()).filter(|bytes| *bytes == text.as_bytes()).count()
    }

    fn only(outputs: &[&str], changes: &[Change]) -> Rewriting {
        let outputs = outputs.iter().map(|&name| name.to_owned()).collect();
        Rewriting { changes: changes.to_vec(), outputs }
    }

    #[test]
    fn a_changed_file_gives_the_same_matte_and_nothing_else() {
        let published = published();
        let changed = rewrite(&published, &only(&["matte"], &[Change::HalfPixel])).unwrap();
        assert_eq!([occurrences(&published, "pytorch"), occurrences(&changed, "pytorch")], [2, 0]);
        assert_eq!([occurrences(&changed, "half_pixel"), occurrences(&changed, "side")], [2, 0]);
        assert!(changed.len() + 160 < published.len(), "the tensor of the other output went with it");
        for sides in [[1, 3], [5, 4]] {
            let input = Array::noise(&[1, 2, sides[0], sides[1]]);
            let matte = |model| run(&mut load(model), &[("in", &input)], &["matte"]).remove(0);
            assert!(matte(&published).max_difference(&matte(&changed)) < 1e-6);
        }
        assert_eq!(load(&changed).outputs().len(), 1);
    }

    #[test]
    fn what_no_change_is_about_is_copied_byte_by_byte() {
        let published = published();
        assert_eq!(rewrite(&published, &only(&["matte", "side"], &[])).unwrap(), published);
        // Fields of a later version of the format.
        let mut later = published.clone();
        later.extend([0xfa, 0x3f, 2, 9, 9]);
        assert_eq!(rewrite(&later, &only(&["matte", "side"], &[])).unwrap(), later);
    }

    #[test]
    fn what_is_no_model_or_has_not_the_output_is_an_error() {
        let published = published();
        let wanted = only(&["matte"], &[Change::HalfPixel]);
        let absent = only(&["alpha"], &[]);
        assert_eq!(rewrite(&published, &absent), Err(RewriteError::NoSuchOutput("alpha".to_owned())));
        assert_eq!(rewrite(&[], &wanted), Err(RewriteError::Malformed));
        assert_eq!(rewrite(b"PK\x03\x04 no model", &wanted), Err(RewriteError::Malformed));
        let two = [published.as_slice(), &published].concat();
        assert_eq!(rewrite(&two, &wanted), Err(RewriteError::Malformed));
        for length in 0..published.len() {
            let _ = rewrite(&published[..length], &wanted);
        }
        for place in 0..published.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut spoilt = published.clone();
                spoilt[place] = byte;
                let _ = rewrite(&spoilt, &wanted);
            }
        }
    }

    #[test]
    fn a_graph_within_the_graph_is_refused() {
        let (mut nested, mut node, mut graph, mut model) =
            (Message::new(), Message::new(), Message::new(), Message::new());
        nested.text(1, "then_branch").bytes(6, b"");
        node.text(1, "x").text(2, "matte").text(4, "If").message(5, &nested);
        let mut output = Message::new();
        output.text(1, "matte");
        graph.message(1, &node).message(12, &output);
        model.message(7, &graph);
        assert_eq!(rewrite(&model.into_bytes(), &only(&["matte"], &[])), Err(RewriteError::NestedGraph));
    }
}
