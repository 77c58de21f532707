//! A ZIP of PNG frames, read back frame by frame.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read, Seek};
use std::path::Path;

use zip::ZipArchive;

use super::Pictures;
use crate::error::EngineError;
use crate::pack::{Frames, Manifest, frame_name};

/// Greatest frame, and manifest, that is read into memory.
const MAX_ENTRY_BYTES: u64 = 128 << 20;

/// An opened archive whose manifest is the one that was promised.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    archive: ZipArchive<R>,
    frames: Frames,
    count: u64,
    next: u64,
}

impl Archive<BufReader<File>> {
    pub(super) fn open(path: &Path, frames: Frames, count: u64) -> std::io::Result<Self> {
        Self::of(BufReader::with_capacity(1 << 16, File::open(path)?), frames, count)
    }
}

impl<R: Read + Seek> Archive<R> {
    pub(crate) fn of(file: R, frames: Frames, count: u64) -> std::io::Result<Self> {
        let mut archive = ZipArchive::new(file)?;
        if archive.len() as u64 != count + 1 {
            return Err(wrong("it has not one entry for each frame and one for the manifest"));
        }
        let mut json = Vec::new();
        archive.by_name(Manifest::NAME)?.take(MAX_ENTRY_BYTES).read_to_end(&mut json)?;
        if serde_json::from_slice::<Manifest>(&json)? != Manifest::of(frames, count) {
            return Err(wrong("its manifest is another's"));
        }
        Ok(Self { archive, frames, count, next: 0 })
    }

    pub(crate) fn next_frame(&mut self, picture: &mut Vec<u8>) -> std::io::Result<bool> {
        if self.next == self.count {
            return Ok(false);
        }
        picture.clear();
        let entry = self.archive.by_name(&frame_name(self.next))?;
        // Read to its end, so that its checksum is compared.
        entry.take(MAX_ENTRY_BYTES).read_to_end(picture)?;
        let sides = [self.frames.size.width, self.frames.size.height].map(|side| (side as u32).to_be_bytes()).concat();
        let colour_type = if self.frames.with_alpha { 6 } else { 2 };
        // IHDR always comes first: width, height, bits a channel, what the channels are.
        let [found_sides @ .., 8, found_type] = picture.get(16..26).unwrap_or_default() else {
            return Err(wrong("a frame that is no PNG of 8 bits a channel"));
        };
        if *found_sides != *sides || *found_type != colour_type {
            return Err(wrong("a frame of another size, or of other channels"));
        }
        self.next += 1;
        Ok(true)
    }
}

impl<R: Read + Seek + Send> Pictures for Archive<R> {
    fn next(&mut self, picture: &mut Vec<u8>) -> Result<bool, EngineError> {
        self.next_frame(picture).map_err(super::unreadable)
    }
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
