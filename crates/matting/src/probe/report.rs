//! What ffprobe writes, as JSON.
//!
//! Owns: the fields that are read and their caps. JSON only, never ffprobe's text forms: metadata may hold anything.

use std::fmt;
use std::io::{BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::timeline::Stamp;

/// Streams and container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Description {
    pub streams: Vec<Stream>,
    pub format: Format,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Format {
    /// Seconds as text.
    pub start_time: Option<String>,
    /// Seconds as text; a claim.
    pub duration: Option<String>,
}

impl Description {
    /// Reads ffprobe's whole answer.
    pub(super) fn read(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

impl Format {
    /// The start of the file in seconds, which ffmpeg makes the zero of picture and sound.
    pub(super) fn start_seconds(&self) -> f64 {
        let told = self.start_time.as_deref().and_then(|text| text.parse::<f64>().ok());
        told.filter(|seconds| seconds.is_finite()).unwrap_or(0.0)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    pub index: usize,
    pub codec_type: String,
    pub codec_name: String,
    pub width: u32,
    pub height: u32,
    pub pix_fmt: String,
    pub sample_aspect_ratio: String,
    pub r_frame_rate: String,
    pub avg_frame_rate: String,
    pub time_base: String,
    pub color_range: String,
    pub color_space: String,
    pub color_transfer: String,
    pub color_primaries: String,
    /// `progressive`, or which field comes first.
    pub field_order: String,
    pub disposition: Disposition,
    pub side_data_list: Vec<SideData>,
    pub tags: Tags,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disposition {
    pub default: u8,
    pub attached_pic: u8,
    pub still_image: u8,
    pub timed_thumbnails: u8,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SideData {
    /// Degrees of the display matrix.
    pub rotation: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tags {
    #[serde(rename = "ALPHA_MODE", alias = "alpha_mode")]
    pub alpha_mode: Option<String>,
}

/// The timestamps of the two streams that matter.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// Frames that are shown: those an edit list cuts away are left out, as players do.
    pub video: Vec<Stamp>,
    /// Some of the picture's packets do not say when they are shown: their times are those of decoding.
    pub video_lacks_pts: bool,
    /// None of a track without a packet.
    pub audio: Option<Span>,
}

/// When the sound is there, in its ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: i64,
    pub end: i64,
    /// The longest time without sound between the two.
    pub hole: i64,
}

/// Which streams' packets are kept, and how many packets of any stream are accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub video: usize,
    pub audio: Option<usize>,
    pub max_packets: usize,
}

/// Why a list of packets could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    TooMany,
    Syntax(serde_json::Error),
}

#[derive(Deserialize)]
struct Packet {
    stream_index: usize,
    pts: Option<i64>,
    dts: Option<i64>,
    #[serde(default)]
    duration: i64,
    #[serde(default)]
    flags: String,
}

impl Stamps {
    /// Reads `{"packets": [...]}` as it comes, keeping a few words a frame.
    pub(super) fn read(json: impl Read, wanted: Wanted) -> Result<Self, Unreadable> {
        let mut reading = Reading { stamps: Self::default(), wanted, packets: 0 };
        let mut deserializer = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, json));
        match (&mut reading).deserialize(&mut deserializer) {
            Ok(()) => Ok(reading.stamps),
            Err(_) if reading.packets > wanted.max_packets => Err(Unreadable::TooMany),
            Err(error) => Err(Unreadable::Syntax(error)),
        }
    }
}

struct Reading {
    stamps: Stamps,
    wanted: Wanted,
    packets: usize,
}

impl Reading {
    fn take(&mut self, packet: &Packet) {
        // AVI has no presentation times; its decoding times stand in for them.
        let Some(at) = packet.pts.or(packet.dts) else { return };
        let is_shown = !packet.flags.contains('D');
        if packet.stream_index == self.wanted.video && is_shown {
            self.stamps.video_lacks_pts |= packet.pts.is_none();
            self.stamps.video.push(Stamp { at, duration: packet.duration });
        } else if Some(packet.stream_index) == self.wanted.audio && is_shown {
            let end = at.saturating_add(packet.duration.max(0));
            let Span { start, end: until, hole } = self.stamps.audio.unwrap_or(Span { start: at, end, hole: 0 });
            let hole = hole.max(at.saturating_sub(until));
            self.stamps.audio = Some(Span { start: start.min(at), end: until.max(end), hole });
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reading {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Reading {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ffprobe's packets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "packets" {
                map.next_value_seed(Packets(self))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Packets<'r>(&'r mut Reading);

impl<'de> DeserializeSeed<'de> for Packets<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Packets<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of packets")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(packet) = seq.next_element::<Packet>()? {
            self.0.packets += 1;
            if self.0.packets > self.0.wanted.max_packets {
                return Err(serde::de::Error::custom("too many packets"));
            }
            self.0.take(&packet);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { video: 0, audio: Some(1), max_packets: 10 };

    #[test]
    fn frames_cut_away_by_an_edit_list_are_not_counted() {
        let json = br#"{"packets": [
            {"stream_index": 0, "pts": 0, "dts": -2, "duration": 40, "flags": "KD"},
            {"stream_index": 0, "pts": 40, "flags": "__"},
            {"stream_index": 1, "pts": -1024, "duration": 1024, "flags": "KD"},
            {"stream_index": 1, "pts": 0, "duration": 1024, "flags": "K_", "side_data_list": [{"x": {"y": []}}]},
            {"stream_index": 2, "pts": 7, "flags": "K_"},
            {"stream_index": 0, "dts": 80, "duration": 40}]}"#;
        let stamps = Stamps::read(&json[..], WANTED).unwrap();
        assert_eq!(stamps.video, [Stamp { at: 40, duration: 0 }, Stamp { at: 80, duration: 40 }]);
        assert_eq!(stamps.audio, Some(Span { start: 0, end: 1024, hole: 0 }));
        assert!(stamps.video_lacks_pts);
    }

    #[test]
    fn the_longest_hole_of_the_sound_is_found_in_any_order() {
        let packet = |pts: i64| format!("{{\"stream_index\": 1, \"pts\": {pts}, \"duration\": 10}}");
        let json = format!("{{\"packets\": [{}]}}", [0, 10, 50, 30, 60, 100].map(packet).join(","));
        let stamps = Stamps::read(json.as_bytes(), WANTED).unwrap();
        assert_eq!(stamps.audio, Some(Span { start: 0, end: 110, hole: 30 }));
    }

    #[test]
    fn a_flood_of_packets_is_cut_off() {
        let packet = r#"{"stream_index": 9, "pts": 0}"#;
        let json = format!("{{\"packets\": [{}]}}", [packet; 11].join(","));
        assert!(matches!(Stamps::read(json.as_bytes(), WANTED), Err(Unreadable::TooMany)));
    }

    #[test]
    fn cut_off_json_is_an_error() {
        assert!(matches!(Stamps::read(&br#"{"packets": [{"stream_"#[..], WANTED), Err(Unreadable::Syntax(_))));
    }
}
