//! Parts become one file, and no picture is encoded again.
//!
//! Owns: the list that ffmpeg joins by, the sound that comes in at this point. Does not own: making the parts
//! (`pipeline`), the check of the result (`verify`). Invariant: each part begins where the frames before it end by
//! count, not where their container says: a container rounds its times, and hundreds of roundings would add up.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

use rotoless_contract::OutputFormat;

use crate::child::{Child, Confinement};
use crate::encode::{EncodeOrder, Encoder, FramesFrom, read_parts};
use crate::error::EngineError;
use crate::kept::MatteOrder;
use crate::media_arguments::{local_file, quiet_ffmpeg};
use crate::pack::{Packer, gif, stills_of};
use crate::pipeline::supervise::StageEnd;
use crate::timeline::Rate;
use crate::tools::Tools;

/// A demuxer, a muxer, and nothing between.
const MEMORY_BYTES: u64 = 4 << 30;

/// A file with some of the frames.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub file: PathBuf,
    pub frames: u64,
}

/// Writes the output that the order names.
pub(crate) fn join_pictures(tools: &Tools, parts: &[Part], order: &EncodeOrder<'_>) -> Result<(), EngineError> {
    if let Some(still) = stills_of(order.codecs.format) {
        let pictures = InTurn { open: None, left: parts.iter() };
        let packed = Packer::create(pictures, still, order, order.max_output_bytes())?.run();
        return match packed {
            Ok(()) => Ok(()),
            Err(StageEnd::Failed(error)) => Err(error),
            Err(StageEnd::Aborted) => Err(EngineError::Verification { detail: "a part ends within a picture".into() }),
        };
    }
    if order.codecs.format == OutputFormat::Gif {
        return join_gifs(parts, order).map_err(EngineError::io("cannot join the GIF's parts"));
    }
    let list = list(parts, order.rate, order.output)?;
    let order = EncodeOrder { frames_from: FramesFrom::Parts(&list), ..*order };
    Encoder::start(tools, &order)?.finish()
}

fn join_gifs(parts: &[Part], order: &EncodeOrder<'_>) -> std::io::Result<()> {
    let mut joiner = gif::Joiner::new(BufWriter::with_capacity(1 << 18, File::create(order.output)?), order.rate);
    for part in parts {
        joiner.add(&mut BufReader::with_capacity(1 << 18, File::open(&part.file)?))?;
    }
    joiner.end()
}

/// Writes the file of all mattes.
pub(crate) fn join_mattes(tools: &Tools, parts: &[Part], order: &MatteOrder<'_>) -> Result<(), EngineError> {
    let list = list(parts, order.rate, order.file)?;
    let mut command = quiet_ffmpeg(tools);
    read_parts(&mut command, &list).args(["-c:v", "copy", "-f", "matroska", "-y"]).output(local_file(order.file));
    let confinement = Confinement { memory_bytes: MEMORY_BYTES, cpu_seconds: order.cpu_seconds, file_bytes: u64::MAX };
    let ended = Child::spawn("the joining of mattes", command, confinement)?.wait()?;
    if ended.status.success() { Ok(()) } else { Err(ended.into_tool_error()) }
}

/// Beside the file that is made of it. The parts' names are ours: letters, digits, a dot.
fn list(parts: &[Part], rate: Rate, target: &Path) -> Result<PathBuf, EngineError> {
    let mut text = "ffconcat version 1.0\n".to_owned();
    for Part { file, frames } in parts {
        let path = std::path::absolute(file).map_err(EngineError::io("cannot name a part"))?;
        let quoted = path.display().to_string().replace('\'', r"'\''");
        let micros = u128::from(*frames) * u128::from(rate.den) * 1_000_000 / u128::from(rate.num);
        text.push_str(&format!("file 'file:{quoted}'\nduration {micros}us\n"));
    }
    let mut name = target.as_os_str().to_owned();
    name.push(".parts");
    let list = PathBuf::from(name);
    std::fs::write(&list, text).map_err(EngineError::io("cannot write the list of parts"))?;
    Ok(list)
}

/// Files one after another, each opened when it is its turn: a video of hours has hundreds of parts.
struct InTurn<'a> {
    open: Option<File>,
    left: std::slice::Iter<'a, Part>,
}

impl Read for InTurn<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(file) = &mut self.open {
                match file.read(buffer)? {
                    0 => self.open = None,
                    count => return Ok(count),
                }
            }
            match self.left.next() {
                Some(part) => self.open = Some(File::open(&part.file)?),
                None => return Ok(0),
            }
        }
    }
}
