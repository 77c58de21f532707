//! Recorded arrivals: lines of `seconds` or `seconds,video_seconds`, a header allowed, in any order.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use crate::micros::Micros;

/// More than any day we simulate has; a greater file is a mistake.
const MAX_BYTES: u64 = 512 << 20;
/// A line is two numbers.
const MAX_LINE: usize = 200;
/// Moments beyond this are a mistake of unit.
const MAX_DAYS: f64 = 400.;

/// One recorded job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRow {
    /// Since the beginning.
    pub at: Micros,
    /// Length of its video, if it was recorded.
    pub video: Option<Micros>,
}

/// A file of numbers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[from] std::io::Error),
    /// It is larger than anything that makes sense.
    #[error("the file has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// A line is not what it should be.
    #[error("line {0}: numbers from 0 on with a comma between, moments within {MAX_DAYS} days")]
    Line(usize),
}

/// Arrivals of a file, in the order of time.
///
/// # Errors
/// [`FileError`].
pub fn read_trace(path: &Path) -> Result<Arc<[TraceRow]>, FileError> {
    parse_trace(File::open(path)?)
}

/// Lengths of videos of a file, one a line, in seconds.
///
/// # Errors
/// [`FileError`].
pub fn read_lengths(path: &Path) -> Result<Arc<[f64]>, FileError> {
    parse_lengths(File::open(path)?)
}

fn parse_trace(source: impl Read) -> Result<Arc<[TraceRow]>, FileError> {
    let mut rows = Vec::new();
    numbers(source, |fields| {
        let (at, video) = match fields {
            [at] => (*at, None),
            [at, video] => (*at, Some(Micros::from_seconds(*video))),
            _ => return false,
        };
        rows.push(TraceRow { at: Micros::from_seconds(at), video });
        at <= MAX_DAYS * 86_400.
    })?;
    rows.sort_by_key(|row| row.at);
    Ok(rows.into())
}

fn parse_lengths(source: impl Read) -> Result<Arc<[f64]>, FileError> {
    let mut lengths = Vec::new();
    numbers(source, |fields| {
        lengths.extend(fields);
        fields.len() == 1
    })?;
    Ok(lengths.into())
}

/// Hands over each line's numbers; `false` refuses the line. A first line without a number is a header.
fn numbers(source: impl Read, mut take: impl FnMut(&[f64]) -> bool) -> Result<(), FileError> {
    let mut source = BufReader::new(source.take(MAX_BYTES + 1));
    let (mut line, mut bytes) = (String::new(), 0);
    for number in 1.. {
        line.clear();
        let read = source.read_line(&mut line)?;
        bytes += read as u64;
        if bytes > MAX_BYTES {
            return Err(FileError::TooLarge);
        }
        if read == 0 {
            return Ok(());
        }
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        if text.len() > MAX_LINE {
            return Err(FileError::Line(number));
        }
        let fields: Result<Vec<f64>, _> = text.split(',').map(|field| field.trim().parse()).collect();
        match fields {
            Ok(fields) if fields.iter().all(|field| field.is_finite() && *field >= 0.) && take(&fields) => {}
            Err(_) if number == 1 && !text.starts_with(|first: char| first.is_ascii_digit()) => {}
            Ok(_) | Err(_) => return Err(FileError::Line(number)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_in_the_order_of_time_with_or_without_lengths() {
        let rows = parse_trace("seconds,video_seconds\n10,3.5\n\n2\r\n".as_bytes()).unwrap();
        let video = Some(Micros(3_500_000));
        assert_eq!(
            *rows,
            [TraceRow { at: Micros::seconds(2), video: None }, TraceRow { at: Micros::seconds(10), video }]
        );
        assert!(parse_trace("".as_bytes()).unwrap().is_empty());
        assert_eq!(*parse_lengths("1\n2.5\n".as_bytes()).unwrap(), [1., 2.5]);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (text, line) in [
            ("1\nx\n", 2),
            ("1,2,3\n", 1),
            ("header\n-1\n", 2),
            ("1\nNaN\n", 2),
            ("1\ninf\n", 2),
            ("99999999999\n", 1),
            ("1;2\n", 1),
        ] {
            match parse_trace(text.as_bytes()) {
                Err(FileError::Line(found)) => assert_eq!(found, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let long = "1".repeat(MAX_LINE + 1);
        assert!(matches!(parse_trace(long.as_bytes()), Err(FileError::Line(1))));
        assert!(matches!(read_trace(Path::new("/nowhere/at/all")), Err(FileError::Read(_))));
    }
}
