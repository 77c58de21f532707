//! A model's mattes on disk: what was made once is not made again while techniques are compared.
//!
//! The file is, of each frame that was given to the model, its number and its matte and what a closer look found, each
//! behind its length: numbers of this machine.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::PathBuf;

use crate::error::EngineError;
use crate::frame::{Closer, Frame, Sight, Size};
use crate::model::{Matter, Stopper};
use crate::registry::InputSpec;

/// A model, or what it made before of the same frames in the same order.
pub(super) struct Cached {
    matter: Box<dyn Matter>,
    store: Store,
}

enum Store {
    Nothing,
    Read(BufReader<File>),
    Write(BufWriter<File>),
}

fn failed() -> impl FnOnce(std::io::Error) -> EngineError {
    EngineError::io("cannot read or write kept mattes")
}

impl Cached {
    pub(super) fn open(matter: Box<dyn Matter>, file: Option<PathBuf>) -> Result<Self, EngineError> {
        let store = match file {
            None => Store::Nothing,
            Some(file) => match File::open(&file) {
                Ok(file) => Store::Read(BufReader::new(file)),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Store::Write(BufWriter::new(File::create(&file).map_err(failed())?))
                }
                Err(error) => return Err(failed()(error)),
            },
        };
        Ok(Self { matter, store })
    }

    /// Whether mattes come from a file.
    pub(super) const fn is_replayed(&self) -> bool {
        matches!(self.store, Store::Read(_))
    }
}

fn write_values(file: &mut impl Write, values: impl ExactSizeIterator<Item = f32>) -> std::io::Result<()> {
    file.write_all(&(values.len() as u64).to_le_bytes())?;
    for value in values {
        file.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

fn read_number(file: &mut impl Read) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_values(file: &mut impl Read) -> std::io::Result<Vec<f32>> {
    let mut bytes = Vec::new();
    let length = read_number(file)?;
    file.take(4 * length).read_to_end(&mut bytes)?;
    Ok(bytes.chunks_exact(4).filter_map(|value| value.try_into().ok().map(f32::from_le_bytes)).collect())
}

impl Matter for Cached {
    fn input(&self) -> Option<&InputSpec> {
        self.matter.input()
    }

    fn picture_size(&self, source: Size) -> Size {
        self.matter.picture_size(source)
    }

    fn matte_size(&self, source: Size) -> Size {
        self.matter.matte_size(source)
    }

    fn every(&self) -> u32 {
        self.matter.every()
    }

    fn takes_turns(&self) -> bool {
        self.matter.takes_turns()
    }

    fn rehearsal(&self) -> usize {
        self.matter.rehearsal()
    }

    fn is_recurrent(&self) -> bool {
        self.matter.is_recurrent()
    }

    fn begin(&mut self, prompt: Option<&str>) -> Result<(), EngineError> {
        self.matter.begin(prompt)
    }

    fn group(&self) -> usize {
        self.matter.group()
    }

    fn forget(&mut self) {
        self.matter.forget();
    }

    fn matte(&mut self, sight: Sight<'_>, picture: Size, matte: &mut Vec<f32>) -> Result<(), EngineError> {
        self.matter.matte(sight, picture, matte)
    }

    fn rehearse(&mut self, frames: &[Frame], picture: Size) -> Result<(), EngineError> {
        if self.is_replayed() { Ok(()) } else { self.matter.rehearse(frames, picture) }
    }

    fn mattes(&mut self, frames: &mut [Frame], picture: Size) -> Result<(), EngineError> {
        if !self.is_replayed() {
            self.matter.mattes(frames, picture)?;
        }
        for frame in frames.iter_mut().filter(|frame| frame.turn.is_some()) {
            match &mut self.store {
                Store::Nothing => {}
                Store::Write(file) => {
                    file.write_all(&frame.number.to_le_bytes()).map_err(failed())?;
                    write_values(file, frame.matte.iter().copied()).map_err(failed())?;
                    let pairs: Vec<f32> = frame.closer.iter().flat_map(|closer| closer.0).collect();
                    write_values(file, pairs.into_iter()).map_err(failed())?;
                }
                Store::Read(file) => {
                    let number = read_number(file).map_err(failed())?;
                    frame.matte = read_values(file).map_err(failed())?;
                    let pairs = read_values(file).map_err(failed())?;
                    frame.closer = pairs.chunks_exact(2).map(|pair| Closer([pair[0], pair[1]])).collect();
                    if number != frame.number {
                        return Err(EngineError::MatteMismatch { found: number, expected: frame.number });
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), EngineError> {
        self.matter.end()
    }

    fn stopper(&self) -> Stopper {
        self.matter.stopper()
    }
}
