//! Lets a stored network take several pictures at once: most are stored for exactly one.
//!
//! Owns: the change of an ONNX file's bytes. The sizes that it says of its inputs, outputs and intermediate values are
//! hints to whoever loads it; the first of each, where it is one, is made unknown, in place. Whether the network then
//! does what it should is for the one who loads it to see: its nodes may count on one picture.

use std::ops::Range;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchAxis {
    /// The input took any number before.
    WasFree,
    /// It does now.
    Freed,
    /// The input is not there, or takes a number of pictures of its own.
    Fixed,
}

/// The bytes are no ONNX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Field of `ModelProto`.
const GRAPH: u64 = 7;
/// Fields of `GraphProto`, all of them `ValueInfoProto`.
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;
const VALUE: u64 = 13;

/// `dim_value: 1`, and an empty denotation, which says nothing and is as long.
const ONE: [u8; 2] = [0x08, 0x01];
const UNKNOWN: [u8; 2] = [0x1a, 0x00];

pub(super) fn free(model: &mut [u8], input: &str) -> Result<BatchAxis, Malformed> {
    let mut ones = Vec::new();
    let mut found = BatchAxis::Fixed;
    for (_, graph) in fields(model, 0..model.len(), &[GRAPH])? {
        for (field, value) in fields(model, graph, &[INPUT, OUTPUT, VALUE])? {
            let is_input = field == INPUT && named(model, value.clone(), input)?;
            match first_side(model, value)? {
                Some(side) if model.get(side.clone()) == Some(&ONE) => {
                    // Other inputs are not pictures.
                    if field != INPUT || is_input {
                        ones.push(side);
                    }
                    if is_input {
                        found = BatchAxis::Freed;
                    }
                }
                // A side with a value begins with the value's key; a name or nothing at all is free.
                Some(side) if is_input && model.get(side.start) != ONE.first() => found = BatchAxis::WasFree,
                Some(_) | None => {}
            }
        }
    }
    if found == BatchAxis::Freed {
        for side in ones {
            if let Some(bytes) = model.get_mut(side) {
                bytes.copy_from_slice(&UNKNOWN);
            }
        }
    }
    Ok(found)
}

fn named(model: &[u8], value: Range<usize>, name: &str) -> Result<bool, Malformed> {
    Ok(fields(model, value, &[1])?.iter().any(|(_, text)| model.get(text.clone()) == Some(name.as_bytes())))
}

/// `type.tensor_type.shape.dim[0]`
fn first_side(model: &[u8], value: Range<usize>) -> Result<Option<Range<usize>>, Malformed> {
    let mut inside = value;
    for field in [2, 1, 2, 1] {
        let Some((_, first)) = fields(model, inside, &[field])?.into_iter().next() else { return Ok(None) };
        inside = first;
    }
    Ok(Some(inside))
}

/// The wanted fields of a message that are messages, texts or bytes themselves: number and place.
fn fields(model: &[u8], message: Range<usize>, wanted: &[u64]) -> Result<Vec<(u64, Range<usize>)>, Malformed> {
    let mut found = Vec::new();
    let (mut at, end) = (message.start, message.end);
    while at < end {
        let key = varint(model, &mut at)?;
        let length = match key & 7 {
            0 => {
                varint(model, &mut at)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(model, &mut at)?).map_err(|_| Malformed)?,
            5 => 4,
            _ => return Err(Malformed),
        };
        let next = at.checked_add(length).filter(|next| *next <= end).ok_or(Malformed)?;
        if key & 7 == 2 && wanted.contains(&(key >> 3)) {
            found.push((key >> 3, at..next));
        }
        at = next;
    }
    if at == end { Ok(found) } else { Err(Malformed) }
}

fn varint(model: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *model.get(*at).ok_or(Malformed)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx_writer::{Dim, GraphWriter};
    use crate::test_runtime::{self, Array};
    use crate::tiny;

    #[test]
    fn a_freed_network_makes_of_many_what_it_makes_of_each() {
        let stored = tiny::luma_threshold_model(0.3, 2.0);
        let mut freed = stored.clone();
        assert_eq!(free(&mut freed, tiny::INPUT), Ok(BatchAxis::Freed));
        assert_eq!(freed.len(), stored.len());
        let many = Array::noise(&[3, 3, 8, 4]);
        let answers = test_runtime::run(&mut test_runtime::load(&freed), &[(tiny::INPUT, &many)], &[tiny::MATTE]);
        assert_eq!(answers[0].shape, [3, 1, 8, 4]);
        let mut session = test_runtime::load(&stored);
        for (values, expected) in many.values.chunks_exact(96).zip(answers[0].values.chunks_exact(32)) {
            let one = Array { shape: vec![1, 3, 8, 4], values: values.to_vec() };
            let answer = test_runtime::run(&mut session, &[(tiny::INPUT, &one)], &[tiny::MATTE]);
            assert_eq!(answer[0].values, expected);
        }
    }

    #[test]
    fn only_the_pictures_axis_is_freed() {
        let with_first = |side: Dim| {
            let mut graph = GraphWriter::new();
            let input = graph.input("in", &[side.clone(), Dim::Fixed(3)]);
            graph.output(&input, "out", &[side, Dim::Fixed(3)]);
            graph.finish()
        };
        for (side, input, expected) in [
            (Dim::Named("n".to_owned()), "in", BatchAxis::WasFree),
            (Dim::Fixed(2), "in", BatchAxis::Fixed),
            (Dim::Fixed(1), "other", BatchAxis::Fixed),
        ] {
            let stored = with_first(side);
            let mut bytes = stored.clone();
            assert_eq!(free(&mut bytes, input), Ok(expected));
            assert_eq!(bytes, stored, "nothing was to be changed");
        }
    }

    #[test]
    fn whatever_the_bytes_are_there_is_an_answer() {
        let stored = tiny::luma_threshold_model(0.3, 2.0);
        for length in 0..stored.len() {
            let mut cut = stored[..length].to_vec();
            let _ = free(&mut cut, tiny::INPUT);
        }
        for place in 0..stored.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut spoilt = stored.clone();
                spoilt[place] = byte;
                let _ = free(&mut spoilt, tiny::INPUT);
            }
        }
        assert_eq!(free(&mut [0xff; 12], "in"), Err(Malformed));
        assert_eq!(free(&mut [0x3a, 0x7f], "in"), Err(Malformed));
    }
}
