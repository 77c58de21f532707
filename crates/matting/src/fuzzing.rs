//! Our own parsers as functions of bytes, for fuzzing: `make fuzz` for long, and a short run as an ordinary test.
//!
//! Owns: the list of parsers that read what a stranger, or a tool, wrote. Each must end without a panic, soon and in
//! bounded memory, whatever the bytes.

use std::io::{BufReader, Cursor};

use crate::backdrop::still;
use crate::container::Container;
use crate::frame::Size;
use crate::pack::Frames;
use crate::stills::Still;
use crate::timeline::Rate;
use crate::verify::gif::Gif;
use crate::verify::webp::Webp;
use crate::verify::zip::Archive;

/// A parser: its name, which is that of its directory of seeds, and what runs it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("answers", answers),
    ("container", container),
    ("gif", gif),
    ("picture", picture),
    ("stills", stills),
    ("webp", webp),
    ("zip", zip),
];

/// What ffprobe says of a file's streams and packets.
fn answers(bytes: &[u8]) {
    crate::probe::read_answers(bytes);
}

/// The outermost structure of a source.
fn container(bytes: &[u8]) {
    let _ = Container::of(&mut Cursor::new(bytes));
}

fn gif(bytes: &[u8]) {
    let _ = Gif::of(&mut BufReader::new(Cursor::new(bytes)));
}

/// The header of a background's picture.
fn picture(bytes: &[u8]) {
    let _ = still::Picture::of_bytes(bytes);
}

/// Pictures one after another, as ffmpeg writes them into a pipe.
fn stills(bytes: &[u8]) {
    for still in [Still::Png, Still::Webp] {
        let (mut rest, mut picture) = (bytes, Vec::new());
        while let Ok(true) = still.read_next(&mut rest, &mut picture) {}
    }
}

fn webp(bytes: &[u8]) {
    let Ok(mut webp) = Webp::of(bytes) else { return };
    let mut picture = Vec::new();
    while let Ok(true) = webp.next_frame(&mut picture) {}
}

fn zip(bytes: &[u8]) {
    let frames = Frames { size: Size { width: 16, height: 16 }, rate: Rate { num: 25, den: 1 }, with_alpha: true };
    let Ok(mut archive) = Archive::of(Cursor::new(bytes), frames, 2) else { return };
    let mut picture = Vec::new();
    while let Ok(true) = archive.next_frame(&mut picture) {}
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    /// Inputs made of each seed.
    const ROUNDS: u32 = 2000;

    /// xorshift64: the same inputs on every machine.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, end: usize) -> usize {
            usize::try_from(self.next() % end.max(1) as u64).unwrap()
        }

        fn mutate(&mut self, bytes: &mut Vec<u8>) {
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len());
                match self.below(6) {
                    0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                    1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                    2 => bytes.truncate(at),
                    // A number of extremes, where sizes and counts stand.
                    3 if bytes.len() > at + 4 => bytes[at..at + 4].fill([0, 0xff, 0x7f][self.below(3)]),
                    4 => {
                        let end = at + self.below(bytes.len() - at).min(64);
                        let piece = bytes[at..end].to_vec();
                        let to = self.below(bytes.len());
                        bytes.splice(to..to, piece);
                    }
                    _ => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
                }
            }
        }
    }

    /// G-28, G-30
    #[test]
    fn no_bytes_make_a_parser_panic_or_hang() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        for (name, target) in TARGETS {
            let mut random = Random(0x726f_746f_6c65_7373);
            let directory = std::fs::read_dir(seeds.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut files: Vec<_> = directory.map(|entry| entry.unwrap().path()).collect();
            files.sort();
            assert!(!files.is_empty(), "{name} has no seed");
            for file in files {
                let seed = std::fs::read(&file).unwrap();
                target(&seed);
                for round in 0..ROUNDS {
                    let mut bytes = seed.clone();
                    random.mutate(&mut bytes);
                    let began = Instant::now();
                    target(&bytes);
                    let took = began.elapsed();
                    assert!(took < Duration::from_secs(5), "{} round {round}: {took:?}", file.display());
                }
            }
        }
    }
}
