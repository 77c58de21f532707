//! A model's mattes on disk: what was made once is not made again while techniques are compared.
//!
//! The file is the mattes one after the other, f32 of this machine, each behind the number of its frame.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use nix::sys::resource::UsageWho;

use crate::bench::cpu_seconds;
use crate::error::EngineError;
use crate::frame::{Sight, Size};
use crate::model::Matter;

/// A model, or what it made before.
pub(super) struct CachedMatter {
    pub(super) matter: Box<dyn Matter>,
    read: Option<BufReader<File>>,
    write: Option<BufWriter<File>>,
    pixels: usize,
    has_run: bool,
}

impl CachedMatter {
    pub(super) fn open(matter: Box<dyn Matter>, file: Option<PathBuf>, size: Size) -> Result<Self, EngineError> {
        let pixels = matter.matte_size(size).pixels();
        let failed = || EngineError::io("cannot open the kept mattes");
        let (mut read, mut write) = (None, None);
        if let Some(file) = file {
            if file.is_file() {
                read = Some(BufReader::new(File::open(file).map_err(failed())?));
            } else {
                write = Some(BufWriter::new(File::create(file).map_err(failed())?));
            }
        }
        Ok(Self { matter, read, write, pixels, has_run: false })
    }

    pub(super) fn is_recurrent(&self) -> bool {
        self.matter.is_recurrent()
    }

    /// Whether no matte was made anew.
    pub(super) const fn is_replayed(&self) -> bool {
        !self.has_run
    }

    /// The matte of a frame; what it cost, seconds of CPU.
    pub(super) fn matte(
        &mut self,
        number: usize,
        sight: Sight<'_>,
        picture: Size,
        matte: &mut Vec<f32>,
    ) -> Result<f64, EngineError> {
        if self.replay(number, matte).is_some() {
            return Ok(0.0);
        }
        self.has_run = true;
        let before = cpu_seconds(UsageWho::RUSAGE_SELF)?;
        self.matter.matte(sight, picture, matte)?;
        let spent = cpu_seconds(UsageWho::RUSAGE_SELF)? - before;
        if let Some(file) = &mut self.write {
            let failed = || EngineError::io("cannot keep mattes");
            file.write_all(&(number as u64).to_le_bytes()).map_err(failed())?;
            for value in &*matte {
                file.write_all(&value.to_le_bytes()).map_err(failed())?;
            }
            file.flush().map_err(failed())?;
        }
        Ok(spent)
    }

    /// None when the file does not hold that frame: it is of another range, and no longer used.
    fn replay(&mut self, number: usize, matte: &mut Vec<f32>) -> Option<()> {
        let file = self.read.as_mut()?;
        let mut found = [0; 8];
        let mut bytes = vec![0; self.pixels * 4];
        let mut next = || {
            file.read_exact(&mut found).ok()?;
            file.read_exact(&mut bytes).ok()?;
            Some(u64::from_le_bytes(found))
        };
        // What the file has before the first frame asked for is passed over.
        while next().filter(|&found| found <= number as u64)? != number as u64 {}
        matte.clear();
        matte.extend(bytes.chunks_exact(4).filter_map(|value| value.try_into().ok().map(f32::from_le_bytes)));
        Some(())
    }
}
