//! The containers that ffmpeg does not write for us: an animated WebP, a ZIP of PNG frames.
//!
//! Owns: taking the encoder's pictures as they come and writing the file, its byte cap. Does not own: encoding
//! (`encode`), the check (`verify`). Invariants: one picture is in memory at a time, whatever the length (ffmpeg's own
//! animated WebP is kept whole in memory until its end, and joins equal frames); each frame that was written stands
//! in the file with its own time.

pub(crate) mod gif;
mod webp;
mod zip;

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rotoless_contract::OutputFormat;

pub(crate) use self::zip::{Manifest, frame_name};
use crate::encode::EncodeOrder;
use crate::error::{EngineError, LimitExceeded};
use crate::frame::Size;
use crate::pipeline::supervise::StageEnd;
use crate::stills::Still;
use crate::timeline::Rate;

/// ffmpeg writes pictures; this writes them into a container.
#[derive(Debug)]
pub(crate) struct Packer<R> {
    pictures: R,
    container: Container,
    max_bytes: u64,
}

/// What a container is told about all of its frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames {
    pub size: Size,
    pub rate: Rate,
    pub with_alpha: bool,
}

#[derive(Debug)]
enum Container {
    Webp(webp::Writer<BufWriter<File>>),
    Zip(Box<zip::Writer<BufWriter<File>>>),
}

/// The pictures that a format is packed of, if it is.
pub(crate) const fn stills_of(format: OutputFormat) -> Option<Still> {
    match format {
        OutputFormat::Webp => Some(Still::Webp),
        OutputFormat::PngSequence => Some(Still::Png),
        OutputFormat::Webm | OutputFormat::Mov | OutputFormat::Mp4 | OutputFormat::Gif => None,
    }
}

impl<R: Read> Packer<R> {
    /// Begins the file that an order names.
    pub(crate) fn create(
        pictures: R,
        still: Still,
        order: &EncodeOrder<'_>,
        max_bytes: u64,
    ) -> Result<Self, EngineError> {
        let frames = Frames { size: order.size, rate: order.rate, with_alpha: order.codecs.with_alpha };
        let file = BufWriter::with_capacity(1 << 18, create(order.output)?);
        let container = match still {
            Still::Webp => Container::Webp(webp::Writer::begin(file, frames).map_err(failed())?),
            Still::Png => Container::Zip(Box::new(zip::Writer::begin(file, frames))),
        };
        let max_bytes = match still {
            Still::Webp => max_bytes.min(webp::MAX_BYTES),
            Still::Png => max_bytes,
        };
        Ok(Self { pictures, container, max_bytes })
    }

    /// Takes pictures until there are no more, and ends the file.
    pub(crate) fn run(mut self) -> Result<(), StageEnd> {
        let still = match &self.container {
            Container::Webp(_) => Still::Webp,
            Container::Zip(_) => Still::Png,
        };
        let mut picture = Vec::new();
        let mut bytes = 0;
        loop {
            match still.read_next(&mut self.pictures, &mut picture) {
                Ok(true) => {}
                Ok(false) => break,
                // The encoder died in the middle of a picture: why, its exit status tells the encode stage. If that
                // claims success, the file stays unfinished and fails its check.
                Err(_) => return Err(StageEnd::Aborted),
            }
            bytes += picture.len() as u64;
            if bytes > self.max_bytes {
                return Err(EngineError::from(LimitExceeded::Output { max: self.max_bytes }).into());
            }
            match &mut self.container {
                Container::Webp(file) => file.add(&picture).map_err(failed())?,
                Container::Zip(file) => file.add(&picture).map_err(failed())?,
            }
        }
        match self.container {
            Container::Webp(file) => file.end().map_err(failed())?,
            Container::Zip(file) => file.end().map_err(failed())?,
        }
        Ok(())
    }
}

fn create(path: &Path) -> Result<File, EngineError> {
    File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(failed())
}

fn failed() -> impl FnOnce(std::io::Error) -> EngineError {
    EngineError::io("cannot write the output")
}

/// Overwrites a few bytes near the beginning of a file and comes back to its end.
fn patch(file: &mut (impl Write + Seek), at: u64, bytes: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)?;
    file.seek(SeekFrom::End(0)).map(drop)
}
