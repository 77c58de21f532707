//! One finished segment as one file: a tar of its description, what it hands over, its pictures and its mattes.
//!
//! Invariant: what is unpacked is what was packed, by its digests, or an error; a file of another plan or number is one
//! as well.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pipeline::stretch::Handover;
use crate::quality::Score;

const DESCRIPTION: &str = "segment.json";
const DESCRIPTION_DIGEST: &str = "segment.json.sha256";
const HANDOVER: &str = "handover";
const PICTURES: &str = "pictures";
const MATTES: &str = "mattes";

/// A mean for each frame of an hour, as text.
const MAX_DESCRIPTION_BYTES: u64 = 8 << 20;

/// States of a recurrent model at the largest picture.
const MAX_HANDOVER_BYTES: u64 = 512 << 20;

/// What a segment is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    /// Of this form of file: 1.
    pub v: u32,
    pub plan: String,
    pub index: u32,
    /// Number of its first frame.
    pub first: u64,
    /// Mean alpha of each of its frames, 0..1.
    pub means: Vec<f32>,
    /// How good the matte of each is.
    pub scores: Vec<Score>,
}

/// The description with the digests of what stands behind it.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    description: Description,
    handover: Option<Member>,
    pictures: Member,
    mattes: Option<Member>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    bytes: u64,
    /// Hex.
    sha256: String,
}

/// A segment's files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub pictures: &'a Path,
    /// When mattes are kept.
    pub mattes: Option<&'a Path>,
}

/// Writes a segment into one file.
pub(super) fn pack(
    description: &Description,
    handover: Option<&[u8]>,
    files: Files<'_>,
    target: &Path,
) -> io::Result<()> {
    let head = Head {
        description: description.clone(),
        handover: handover.map(Member::of_reader).transpose()?,
        pictures: Member::of_reader(File::open(files.pictures)?)?,
        mattes: files.mattes.map(|file| Member::of_reader(File::open(file)?)).transpose()?,
    };
    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 18, File::create(target)?));
    let text = serde_json::to_vec(&head)?;
    append(&mut archive, DESCRIPTION, text.len() as u64, &*text)?;
    let digest = Member::of_reader(&*text)?.sha256;
    append(&mut archive, DESCRIPTION_DIGEST, digest.len() as u64, digest.as_bytes())?;
    if let (Some(bytes), Some(member)) = (handover, &head.handover) {
        append(&mut archive, HANDOVER, member.bytes, bytes)?;
    }
    append(&mut archive, PICTURES, head.pictures.bytes, File::open(files.pictures)?)?;
    if let (Some(file), Some(member)) = (files.mattes, &head.mattes) {
        append(&mut archive, MATTES, member.bytes, File::open(file)?)?;
    }
    archive.into_inner()?.flush()
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    archive.append_data(&mut header, name, content)
}

/// Reads a segment's file: its pictures and mattes into files of their own, and the rest.
pub(super) fn unpack(
    source: &Path,
    plan: &str,
    index: u32,
    files: Files<'_>,
) -> io::Result<(Description, Option<Handover>)> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 18, File::open(source)?));
    let mut entries = archive.entries()?;
    let mut entry = || entries.next().transpose();
    let text = read_capped(entry()?, DESCRIPTION, MAX_DESCRIPTION_BYTES)?;
    if read_capped(entry()?, DESCRIPTION_DIGEST, 64)? != Member::of_reader(&*text)?.sha256.as_bytes() {
        return Err(wrong("its description is not what was stored"));
    }
    let head: Head = serde_json::from_slice(&text)?;
    let Description { v, plan: found, index: number, .. } = &head.description;
    if (*v, found.as_str(), *number) != (1, plan, index) {
        return Err(wrong("it is another segment"));
    }
    let handover = match &head.handover {
        Some(member) => {
            let bytes = read_capped(entry()?, HANDOVER, MAX_HANDOVER_BYTES)?;
            member.check(&Member::of_reader(&*bytes)?)?;
            Some(postcard::from_bytes(&bytes).map_err(|_| wrong("what it hands over cannot be read"))?)
        }
        None => None,
    };
    head.pictures.take(entry()?, PICTURES, files.pictures)?;
    match (&head.mattes, files.mattes) {
        (Some(member), Some(file)) => member.take(entry()?, MATTES, file)?,
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => return Err(wrong("its mattes are not those that are kept")),
    }
    Ok((head.description, handover))
}

impl Member {
    fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let mut digest = Writing { to: io::sink(), hasher: Sha256::new() };
        let bytes = io::copy(&mut reader, &mut digest)?;
        Ok(Self { bytes, sha256: hex::encode(digest.hasher.finalize()) })
    }

    fn check(&self, found: &Self) -> io::Result<()> {
        if self == found { Ok(()) } else { Err(wrong("its content is not what was stored")) }
    }

    fn take(&self, entry: Option<impl Read + Named>, name: &str, file: &Path) -> io::Result<()> {
        let entry = named(entry, name)?;
        let mut target = Writing { to: File::create(file)?, hasher: Sha256::new() };
        let bytes = io::copy(&mut entry.take(self.bytes.saturating_add(1)), &mut target)?;
        self.check(&Self { bytes, sha256: hex::encode(target.hasher.finalize()) })
    }
}

/// Writes and digests.
struct Writing<W> {
    to: W,
    hasher: Sha256,
}

impl<W: Write> Write for Writing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A member of an archive knows its name.
trait Named {
    fn is_named(&self, name: &str) -> bool;
}

impl<R: Read> Named for tar::Entry<'_, R> {
    fn is_named(&self, name: &str) -> bool {
        self.path_bytes().as_ref() == name.as_bytes()
    }
}

fn named<E: Named>(entry: Option<E>, name: &str) -> io::Result<E> {
    entry.filter(|entry| entry.is_named(name)).ok_or_else(|| wrong("a part of it is missing"))
}

fn read_capped(entry: Option<impl Read + Named>, name: &str, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    named(entry, name)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(wrong("a part of it is too large")) } else { Ok(bytes) }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "0123456789abcdef0123456789abcdef";

    fn description() -> Description {
        Description {
            v: 1,
            plan: PLAN.to_owned(),
            index: 3,
            first: 90,
            means: vec![0.1, 1.0 / 3.0],
            scores: vec![Score::default(); 2],
        }
    }

    fn packed(dir: &Path) -> std::path::PathBuf {
        let (pictures, mattes, target) = (dir.join("p"), dir.join("m"), dir.join("segment"));
        std::fs::write(&pictures, [7; 3000]).unwrap();
        std::fs::write(&mattes, [9; 2000]).unwrap();
        let handover = postcard::to_stdvec(&Handover { matter: vec![1, 2, 3], ..Handover::default() }).unwrap();
        let files = Files { pictures: &pictures, mattes: Some(&mattes) };
        pack(&description(), Some(&handover), files, &target).unwrap();
        target
    }

    fn unpacked(dir: &Path, file: &Path, plan: &str, index: u32) -> io::Result<(Description, Option<Handover>)> {
        let (pictures, mattes) = (dir.join("p2"), dir.join("m2"));
        unpack(file, plan, index, Files { pictures: &pictures, mattes: Some(&mattes) })
    }

    #[test]
    fn a_segment_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = packed(dir.path());
        let (found, handover) = unpacked(dir.path(), &file, PLAN, 3).unwrap();
        assert_eq!(found, description());
        assert_eq!(handover.unwrap().matter, [1, 2, 3]);
        assert_eq!(std::fs::read(dir.path().join("p2")).unwrap(), [7; 3000]);
        assert_eq!(std::fs::read(dir.path().join("m2")).unwrap(), [9; 2000]);
    }

    #[test]
    fn a_segment_of_another_job_or_number_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = packed(dir.path());
        unpacked(dir.path(), &file, PLAN, 2).unwrap_err();
        unpacked(dir.path(), &file, "another", 3).unwrap_err();
    }

    #[test]
    fn no_byte_can_change_or_be_missing_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let whole = std::fs::read(packed(dir.path())).unwrap();
        let file = dir.path().join("changed");
        let good = description();
        for at in (0..whole.len()).step_by(97) {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            std::fs::write(&file, &changed).unwrap();
            // What tar does not read (padding, owners) may change.
            if let Ok((found, _)) = unpacked(dir.path(), &file, PLAN, 3) {
                assert_eq!(found, good);
                assert_eq!(std::fs::read(dir.path().join("p2")).unwrap(), [7; 3000]);
                assert_eq!(std::fs::read(dir.path().join("m2")).unwrap(), [9; 2000]);
            }
            std::fs::write(&file, &whole[..at]).unwrap();
            // The padding at the end is no part of it.
            assert!(at > whole.len() - 1600 || unpacked(dir.path(), &file, PLAN, 3).is_err(), "{at}");
        }
    }
}
