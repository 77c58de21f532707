//! The codecs that a source may have.
//!
//! Owns: the list. ffmpeg knows hundreds of decoders, most of them for games of the nineties that nobody sends and
//! nobody hardens; what is not here is refused by name before its decoder is opened (guarantees §6).

use std::sync::OnceLock;

/// Of the picture: a codec as ffprobe names it, and ffmpeg's decoders of it.
const VIDEO: &[(&str, &[&str])] = &[
    ("av1", &["libdav1d", "libaom-av1", "av1"]),
    ("cfhd", &["cfhd"]),
    ("cinepak", &["cinepak"]),
    ("dnxhd", &["dnxhd"]),
    ("dvvideo", &["dvvideo"]),
    ("ffv1", &["ffv1"]),
    ("ffvhuff", &["ffvhuff"]),
    ("h263", &["h263"]),
    ("h264", &["h264"]),
    ("hevc", &["hevc"]),
    ("huffyuv", &["huffyuv"]),
    ("magicyuv", &["magicyuv"]),
    ("mjpeg", &["mjpeg"]),
    ("mpeg1video", &["mpeg1video"]),
    ("mpeg2video", &["mpeg2video"]),
    ("mpeg4", &["mpeg4"]),
    ("msmpeg4v2", &["msmpeg4v2"]),
    ("msmpeg4v3", &["msmpeg4"]),
    ("png", &["png"]),
    ("prores", &["prores"]),
    ("qtrle", &["qtrle"]),
    ("rawvideo", &["rawvideo"]),
    ("theora", &["theora"]),
    ("utvideo", &["utvideo"]),
    ("v210", &["v210"]),
    ("vc1", &["vc1"]),
    ("vp8", &["vp8", "libvpx"]),
    ("vp9", &["vp9", "libvpx-vp9"]),
    ("wmv3", &["wmv3"]),
];

/// Of the sound.
const SOUND: &[(&str, &[&str])] = &[
    ("aac", &["aac"]),
    ("ac3", &["ac3"]),
    ("adpcm_ima_qt", &["adpcm_ima_qt"]),
    ("adpcm_ima_wav", &["adpcm_ima_wav"]),
    ("adpcm_ms", &["adpcm_ms"]),
    ("alac", &["alac"]),
    ("amr_nb", &["amrnb"]),
    ("amr_wb", &["amrwb"]),
    ("dts", &["dca"]),
    ("eac3", &["eac3"]),
    ("flac", &["flac"]),
    ("mp2", &["mp2float", "mp2"]),
    ("mp3", &["mp3float", "mp3"]),
    ("opus", &["opus", "libopus"]),
    ("pcm_alaw", &["pcm_alaw"]),
    ("pcm_f32be", &["pcm_f32be"]),
    ("pcm_f32le", &["pcm_f32le"]),
    ("pcm_f64le", &["pcm_f64le"]),
    ("pcm_mulaw", &["pcm_mulaw"]),
    ("pcm_s16be", &["pcm_s16be"]),
    ("pcm_s16le", &["pcm_s16le"]),
    ("pcm_s24be", &["pcm_s24be"]),
    ("pcm_s24le", &["pcm_s24le"]),
    ("pcm_s32be", &["pcm_s32be"]),
    ("pcm_s32le", &["pcm_s32le"]),
    ("pcm_s8", &["pcm_s8"]),
    ("pcm_u8", &["pcm_u8"]),
    ("vorbis", &["vorbis"]),
    ("truehd", &["truehd"]),
    ("wmav1", &["wmav1"]),
    ("wmav2", &["wmav2"]),
];

/// Of titles, which are left out: ffprobe opens their decoders all the same.
const TITLES: &[(&str, &[&str])] = &[
    ("ass", &["ass", "ssa"]),
    ("dvb_subtitle", &["dvbsub"]),
    ("dvd_subtitle", &["dvdsub"]),
    ("eia_608", &["cc_dec"]),
    ("hdmv_pgs_subtitle", &["pgssub"]),
    ("mov_text", &["mov_text"]),
    ("subrip", &["subrip", "srt"]),
    ("text", &["text"]),
    ("webvtt", &["webvtt"]),
    ("xsub", &["xsub"]),
];

/// Whether a picture of this codec is accepted.
pub(crate) fn is_picture(codec: &str) -> bool {
    VIDEO.iter().any(|(name, _)| *name == codec)
}

/// Whether sound of this codec is accepted.
pub(crate) fn is_sound(codec: &str) -> bool {
    SOUND.iter().any(|(name, _)| *name == codec)
}

/// Whether a stream of this codec may be in a file.
pub(crate) fn is_accepted(codec: &str) -> bool {
    is_picture(codec) || is_sound(codec) || TITLES.iter().any(|(name, _)| *name == codec)
}

/// ffmpeg's decoders of all of them, for its `-codec_whitelist`.
pub(crate) fn decoder_whitelist() -> &'static str {
    static LIST: OnceLock<String> = OnceLock::new();
    LIST.get_or_init(|| {
        let decoders: Vec<&str> =
            VIDEO.iter().chain(SOUND).chain(TITLES).flat_map(|(_, decoders)| *decoders).copied().collect();
        decoders.join(",")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_send_is_accepted_and_games_videos_are_not() {
        for codec in ["h264", "hevc", "vp8", "vp9", "av1", "prores", "mjpeg", "mpeg4"] {
            assert!(is_picture(codec), "{codec}");
        }
        for codec in ["bink", "smackvideo", "roq", "", "libvpx", "h264,bink"] {
            assert!(!is_picture(codec), "{codec}");
        }
        assert!(is_sound("aac") && is_sound("pcm_s16le") && !is_sound("unknown"));
    }

    #[test]
    fn the_whitelist_names_decoders_without_blanks() {
        let list = decoder_whitelist();
        assert!(list.split(',').any(|name| name == "libdav1d") && !list.contains(char::is_whitespace));
    }
}
