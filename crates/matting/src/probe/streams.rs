//! Which streams of a file are the picture and the sound.
//!
//! Owns: the choice, refusing more streams or another codec than is accepted. As players choose: the track that the
//! file says is its default, else the first; never a cover, a thumbnail or what no decoder knows.

use super::report::{Description, Stream};
use crate::codecs::{is_accepted, is_picture, is_sound};
use crate::error::{EngineError, LimitExceeded};

/// Streams that a file may have, of any kind: subtitles, data and attachments count.
pub(super) const MAX_STREAMS: usize = 16;

/// The streams that matter.
#[derive(Debug)]
pub(super) struct Chosen<'d> {
    pub video: &'d Stream,
    pub audio: Option<&'d Stream>,
    pub warnings: Vec<String>,
}

impl<'d> Chosen<'d> {
    pub(super) fn of(description: &'d Description) -> Result<Self, EngineError> {
        let streams = &description.streams;
        if streams.len() > MAX_STREAMS {
            return Err(LimitExceeded::Streams { streams: streams.len(), max: MAX_STREAMS }.into());
        }
        let pictures = || {
            let is_film = |stream: &&Stream| {
                stream.disposition.attached_pic == 0
                    && stream.disposition.timed_thumbnails == 0
                    && stream.disposition.still_image == 0
            };
            streams.iter().filter(|stream| stream.codec_type == "video").filter(is_film)
        };
        let readable = |stream: &&Stream| is_picture(&stream.codec_name);
        let video = preferred(pictures().filter(readable));
        let Some(video) = video.or_else(|| pictures().next()) else { return Err(EngineError::NoVideoStream) };
        if !is_picture(&video.codec_name) {
            return Err(EngineError::Codec { name: printable(&video.codec_name) });
        }
        let sounds = || streams.iter().filter(|stream| stream.codec_type == "audio");
        let audio = preferred(sounds().filter(|stream| is_sound(&stream.codec_name)));

        let mut warnings = Vec::new();
        if pictures().count() > 1 {
            warnings.push(format!("the file has {} pictures; number {} was taken", pictures().count(), video.index));
        }
        match (audio, sounds().count()) {
            (None, 0) | (Some(_), 1) => {}
            (None, _) => warnings.push("the sound's codec is not supported; the sound was left out".to_owned()),
            (Some(_), tracks) => {
                warnings.push(format!("the file has {tracks} sound tracks; its default or first one was kept"));
            }
        }
        Ok(Self { video, audio, warnings })
    }
}

impl Description {
    /// A stream, of any kind, whose codec is not accepted.
    pub(super) fn unsupported_codec(&self) -> Option<EngineError> {
        let is_unsupported = |stream: &&Stream| !is_accepted(&stream.codec_name) && !stream.codec_name.is_empty();
        let stream = self.streams.iter().find(is_unsupported)?;
        Some(EngineError::Codec { name: printable(&stream.codec_name) })
    }
}

/// The one that the file calls its default, else the first.
fn preferred<'d>(streams: impl Iterator<Item = &'d Stream>) -> Option<&'d Stream> {
    let mut first = None;
    for stream in streams {
        if stream.disposition.default == 1 {
            return Some(stream);
        }
        first = first.or(Some(stream));
    }
    first
}

/// ffprobe's own words for a codec; a four-letter code of the file's may stand in for one that it does not know.
fn printable(name: &str) -> String {
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(32).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::super::report::Disposition;
    use super::*;

    fn stream(index: usize, codec_type: &str, codec_name: &str, default: u8) -> Stream {
        let disposition = Disposition { default, ..Disposition::default() };
        Stream { index, codec_type: codec_type.into(), codec_name: codec_name.into(), disposition, ..Stream::default() }
    }

    fn described(streams: Vec<Stream>) -> Description {
        Description { streams, ..Description::default() }
    }

    #[test]
    fn the_default_track_is_taken_else_the_first_that_can_be_read() {
        let file = described(vec![
            stream(0, "audio", "apac", 1),
            stream(1, "video", "h264", 0),
            stream(2, "audio", "aac", 0),
            stream(3, "audio", "opus", 1),
            stream(4, "subtitle", "ass", 1),
        ]);
        let chosen = Chosen::of(&file).unwrap();
        assert_eq!((chosen.video.index, chosen.audio.map(|stream| stream.index)), (1, Some(3)));
        assert_eq!(chosen.warnings.len(), 1, "{:?}", chosen.warnings);
    }

    #[test]
    fn a_cover_is_no_film() {
        let mut cover = stream(0, "video", "mjpeg", 1);
        cover.disposition.attached_pic = 1;
        let found = Chosen::of(&described(vec![cover])).map(|chosen| chosen.video.index);
        assert!(matches!(found, Err(EngineError::NoVideoStream)), "{found:?}");
    }

    #[test]
    fn a_codec_that_is_not_accepted_is_named() {
        let file = described(vec![stream(0, "video", "bink\nvideo", 1)]);
        let found = Chosen::of(&file).map(|chosen| chosen.video.index);
        assert!(matches!(&found, Err(EngineError::Codec { name }) if name == "binkvideo"), "{found:?}");
    }

    #[test]
    fn streams_are_accepted_up_to_the_limit() {
        let with = |count: usize| described((0..count).map(|index| stream(index, "video", "h264", 0)).collect());
        assert!(Chosen::of(&with(MAX_STREAMS)).is_ok());
        let found = Chosen::of(&with(MAX_STREAMS + 1)).map(|chosen| chosen.video.index);
        assert!(matches!(found, Err(EngineError::Limit(LimitExceeded::Streams { .. }))), "{found:?}");
    }
}
