//! Every media rule of docs/MEDIA.md by a clip of its kind: what goes in, and what must come out. All clips show one
//! bright box on a dim ground; where it is, how large, of which colour and when says what was done to the picture.

use std::path::{Path, PathBuf};

use rotoless_contract::spec::{Background, Model, OutputFormat, Rgb};
use rotoless_contract::worker::MediaLimits;
use rotoless_matting::{Engine, EngineError, LimitExceeded};

use crate::support::{Bench, free_engine, raw, spec, transparent};

/// Of the box, as sRGB: bright enough to be all subject; another matrix than its own would take 23 off its green.
const BOX: [u8; 3] = [0x78, 0xff, 0x50];

/// Where the box is, in shares of the picture: left, top, right, bottom.
const PLACE: [f64; 4] = [0.125, 0.125, 0.375, 0.5];

/// A clip and what must become of it.
struct Rule {
    name: &'static str,
    file: &'static str,
    /// `size`, `rate`, `frames` of the picture that is given to ffmpeg.
    picture: (&'static str, u32, u32),
    /// Filters on the picture, which is RGB before them.
    filters: &'static str,
    /// Encoder and container.
    codec: &'static str,
    /// What is done to the file afterwards.
    then: fn(&Path),
    size: (u32, u32),
    frames: u64,
    fps: f64,
    place: [f64; 4],
    colour: [u8; 3],
    /// Parts of the warnings, as many as there are.
    warnings: &'static [&'static str],
}

const H264: &str = "-c:v libx264 -preset ultrafast -crf 6";
const BT709: &str = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd,format=yuv420p,\
                     setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709";
const TAGS: &str = "-color_range tv -colorspace bt709 -color_primaries bt709 -color_trc bt709";

/// What most rules have in common.
const USUAL: Rule = Rule {
    name: "",
    file: "clip.mp4",
    picture: ("128x96", 25, 8),
    filters: BT709,
    codec: "",
    then: |_| (),
    size: (128, 96),
    frames: 8,
    fps: 25.0,
    place: PLACE,
    colour: BOX,
    warnings: &[],
};

/// Writes the matrix of the first track's header: a, b, c, d of the transformation.
fn turn(path: &Path, matrix: [i32; 4]) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"tkhd").unwrap() + 4 + 40;
    for (place, value) in [(0, matrix[0]), (4, matrix[1]), (12, matrix[2]), (16, matrix[3])] {
        bytes[at + place..at + place + 4].copy_from_slice(&(value << 16).to_be_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

fn make(bench: &Bench, rule: &Rule) -> PathBuf {
    let Rule { file, picture: (size, rate, frames), filters, codec, .. } = rule;
    let seconds = f64::from(*frames) / f64::from(*rate);
    let source = format!(
        "color=c=0x182030:s={size}:r={rate}:d={seconds:.6},format=rgb24,\
         drawbox=x=iw/8:y=ih/8:w=iw/4:h=3*ih/8:color=0x78ff50:t=fill"
    );
    let codec = if codec.is_empty() { format!("{H264} {TAGS}") } else { (*codec).to_owned() };
    let mut arguments = vec!["-f", "lavfi", "-i", &source, "-vf", filters];
    arguments.extend(codec.split_whitespace());
    let path = bench.make(file, &arguments);
    (rule.then)(&path);
    path
}

/// Runs the clip through the engine and looks at the frames of what came out.
fn check(bench: &Bench, engine: &Engine, rule: &Rule) {
    let name = rule.name;
    let clip = make(bench, rule);
    let (output, finished) =
        bench.run(engine, &clip, &transparent(Model::Human)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let info = &finished.output;
    assert_eq!((info.width, info.height, info.frames), (rule.size.0, rule.size.1, rule.frames), "{name}");
    assert!((info.fps - rule.fps).abs() < 0.01, "{name}: {} fps", info.fps);
    let warnings = &finished.warnings;
    assert_eq!(warnings.len(), rule.warnings.len(), "{name}: {warnings:?}");
    for (warning, part) in warnings.iter().zip(rule.warnings) {
        assert!(warning.contains(part), "{name}: {warning}");
    }
    let pixels = raw(&output, &["-c:v", "libvpx-vp9"], "scale=in_color_matrix=bt709:in_range=tv", "rgba");
    let (width, height) = (info.width as usize, info.height as usize);
    assert_eq!(pixels.len(), width * height * 4 * rule.frames as usize, "{name}");
    for frame in pixels.chunks_exact(width * height * 4) {
        check_frame(name, frame, (width, height), rule);
    }
}

/// Alpha is there exactly where the box must be, but for two pixels along its border; so is its colour.
fn check_frame(name: &str, frame: &[u8], (width, height): (usize, usize), rule: &Rule) {
    let [left, top, right, bottom] = rule.place;
    let scaled = |share: f64, side: usize| share * side as f64;
    for (number, pixel) in frame.chunks_exact(4).enumerate() {
        let (x, y) = ((number % width) as f64 + 0.5, (number / width) as f64 + 0.5);
        // How far inside the box; negative outside.
        let depth = (x - scaled(left, width))
            .min(scaled(right, width) - x)
            .min(y - scaled(top, height))
            .min(scaled(bottom, height) - y);
        if depth > 2.0 {
            assert!(pixel[3] > 245, "{name}: alpha {} at {x},{y}, inside", pixel[3]);
        } else if depth < -2.0 {
            assert!(pixel[3] < 10, "{name}: alpha {} at {x},{y}, outside", pixel[3]);
        }
        // Chroma of the border reaches a pixel further.
        if depth > 4.0 {
            let worst = pixel.iter().zip(rule.colour).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            assert!(worst <= 9, "{name}: {pixel:?} at {x},{y} is not {:?}", rule.colour);
        }
    }
}

fn check_all(rules: &[Rule]) {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for rule in rules {
        check(&bench, &engine, rule);
    }
}

#[test]
fn turned_and_odd_shaped_pictures_come_out_as_players_show_them() {
    let turned = |name, matrix: fn(&Path), size, place| Rule { name, then: matrix, size, place, ..USUAL };
    check_all(&[
        turned("turned by 90°", |path| turn(path, [0, 1, -1, 0]), (96, 128), [0.5, 0.125, 0.875, 0.375]),
        turned("turned by 180°", |path| turn(path, [-1, 0, 0, -1]), (128, 96), [0.625, 0.5, 0.875, 0.875]),
        turned("turned by 270°", |path| turn(path, [0, -1, 1, 0]), (96, 128), [0.125, 0.625, 0.5, 0.875]),
        turned("mirrored", |path| turn(path, [-1, 0, 0, 1]), (128, 96), [0.625, 0.125, 0.875, 0.5]),
        Rule { name: "wide pixels", filters: "setsar=4/3", size: (170, 96), warnings: &[], ..tagged(USUAL) },
        Rule { name: "tall pixels", filters: "setsar=2/3", size: (128, 144), ..tagged(USUAL) },
        Rule {
            name: "wide pixels, turned by 90°",
            filters: "setsar=3/2",
            then: |path| turn(path, [0, 1, -1, 0]),
            size: (96, 192),
            place: [0.5, 0.125, 0.875, 0.375],
            ..tagged(USUAL)
        },
        // 4:2:0 has no odd sides in H.264's players, so 4:4:4.
        Rule {
            name: "odd sides",
            picture: ("129x97", 25, 8),
            filters: "format=yuv444p",
            codec: "-c:v ffv1",
            file: "clip.mkv",
            ..USUAL
        },
        Rule {
            name: "odd sides, turned by 270°",
            picture: ("129x97", 25, 8),
            filters: "format=yuv444p",
            codec: "-c:v libx264 -preset ultrafast -crf 6",
            then: |path| turn(path, [0, -1, 1, 0]),
            size: (96, 128),
            place: [0.125, 0.625, 0.5, 0.875],
            ..USUAL
        },
    ]);
}

/// The same in 8-bit BT.709, behind the rule's own filter.
fn tagged(rule: Rule) -> Rule {
    Rule { codec: "-pix_fmt yuv420p -c:v libx264 -preset ultrafast -crf 6", ..rule }
}

#[test]
fn every_depth_matrix_and_range_keeps_the_colour() {
    let ffv1 = |name, filters, codec, warnings| Rule { name, file: "clip.mkv", filters, codec, warnings, ..USUAL };
    check_all(&[
        ffv1("BT.601, untagged SD", "format=yuv420p", "-c:v ffv1", &[]),
        ffv1(
            "BT.601, tagged",
            "scale=out_color_matrix=bt601,format=yuv420p",
            "-c:v ffv1 -colorspace smpte170m -color_range tv",
            &[],
        ),
        ffv1(
            "full range BT.709",
            "scale=out_color_matrix=bt709:out_range=pc,format=yuv420p",
            "-c:v ffv1 -colorspace bt709 -color_range pc",
            &[],
        ),
        ffv1(
            "yuvj420p of JPEG",
            "scale=out_color_matrix=bt601:out_range=pc",
            "-pix_fmt yuvj420p -c:v mjpeg -q:v 2",
            &[],
        ),
        ffv1(
            "10-bit 4:2:2",
            "scale=out_color_matrix=bt709,format=yuv422p10le",
            "-c:v ffv1 -colorspace bt709 -color_range tv",
            &["8 bits"],
        ),
        ffv1(
            "12-bit 4:4:4",
            "scale=out_color_matrix=bt709,format=yuv444p12le",
            "-c:v ffv1 -colorspace bt709 -color_range tv",
            &["8 bits"],
        ),
        ffv1("RGB", "format=bgr0", "-c:v ffv1", &[]),
        ffv1("planar RGB of 10 bits", "format=gbrp10le", "-c:v ffv1", &["8 bits"]),
        ffv1("gray", "format=gray,lut=c0='min(val*13/10,255)'", "-c:v ffv1", &[]).shown([253; 3]),
        ffv1(
            "wide primaries without HDR",
            "scale=out_color_matrix=bt709,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv,\
             zscale=primaries=2020:transfer=2020_10:matrix=2020_ncl:range=limited,format=yuv420p10le",
            "-c:v ffv1 -colorspace bt2020nc -color_primaries bt2020 -color_trc bt2020-10 -color_range tv",
            &["8 bits", "wide colours"],
        ),
    ]);
}

impl Rule {
    fn shown(self, colour: [u8; 3]) -> Self {
        Self { colour, ..self }
    }
}

/// Paper white is coded at 58 % of PQ's and 75 % of HLG's range: as grey it would be no subject, and look washed out.
#[test]
fn hdr_is_tone_mapped_to_what_it_shows() {
    // Ground and box in code values; without chroma.
    let bt2020 = "-pix_fmt yuv420p10le -colorspace bt2020nc -color_primaries bt2020 -color_range tv";
    let pq = format!("-c:v libx265 -preset ultrafast -x265-params log-level=error:crf=6 {bt2020} -color_trc smpte2084");
    let hlg = format!("-c:v ffv1 {bt2020} -color_trc arib-std-b67");
    let coded = |value: u32| format!("format=yuv420p10le,lutyuv=y='if(gt(val,500),{value},150)':u=512:v=512");
    let (pq_filter, hlg_filter) = (coded(572), coded(721));
    let warnings: &[&str] = &["8 bits", "tone-mapped"];
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    check_all(&[
        Rule { name: "PQ", filters: leak(pq_filter), codec: leak(pq), warnings, ..USUAL }.shown([217; 3]),
        Rule { name: "HLG", file: "clip.mkv", filters: leak(hlg_filter), codec: leak(hlg), warnings, ..USUAL }
            .shown([217; 3]),
        // The box itself at four times paper white: its hue comes back.
        Rule {
            name: "PQ of a colour",
            file: "clip.mkv",
            filters: "scale=out_color_matrix=bt709,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv,\
                      zscale=transfer=linear:npl=100,format=gbrpf32le,\
                      zscale=transfer=smpte2084:primaries=2020:matrix=2020_ncl:range=limited:npl=812,format=yuv420p10le",
            codec: "-c:v ffv1 -colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084 -color_range tv",
            warnings,
            ..USUAL
        }
        .shown([118, 252, 78]),
    ]);
}

#[test]
fn every_usual_codec_and_container_is_read() {
    let rule = |name, file, codec| Rule { name, file, codec, ..USUAL };
    let rules = [
        rule(
            "H.265 in MP4",
            "c.mp4",
            "-c:v libx265 -preset ultrafast -x265-params log-level=error:crf=8 -tag:v hvc1 -colorspace bt709",
        ),
        rule("H.264 in AVI, B-frames", "c.avi", "-c:v libx264 -crf 8 -bf 2 -colorspace bt709"),
        rule("H.264 in MOV", "c.mov", "-c:v libx264 -preset ultrafast -crf 8 -colorspace bt709"),
        rule(
            "H.264 in fragments",
            "f.mp4",
            "-c:v libx264 -preset ultrafast -crf 8 -g 4 -movflags +frag_keyframe+empty_moov+default_base_moof -colorspace bt709",
        ),
        rule("VP8 in WebM", "8.webm", "-c:v libvpx -crf 4 -b:v 2M"),
        rule("VP9 in WebM", "9.webm", "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -crf 8 -b:v 0 -colorspace bt709"),
        rule("AV1 in WebM", "1.webm", "-c:v libaom-av1 -cpu-used 8 -usage realtime -crf 8 -b:v 0 -colorspace bt709"),
        rule("AV1 in MP4", "1.mp4", "-c:v libaom-av1 -cpu-used 8 -usage realtime -crf 8 -b:v 0 -colorspace bt709"),
        rule("MPEG-4 in AVI", "4.avi", "-c:v mpeg4 -q:v 2 -bf 2"),
        rule("MPEG-4 in MP4", "4.mp4", "-c:v mpeg4 -q:v 2"),
        rule("MPEG-2 in MKV", "2.mkv", "-c:v mpeg2video -q:v 2"),
        rule("Motion JPEG in AVI", "j.avi", "-c:v mjpeg -q:v 2 -pix_fmt yuvj420p"),
        rule(
            "ProRes 422",
            "p.mov",
            "-c:v prores_ks -profile:v 3 -pix_fmt yuv422p10le -colorspace bt709 -color_primaries bt709 -color_trc bt709",
        ),
        Rule {
            picture: ("256x128", 25, 4),
            size: (256, 128),
            frames: 4,
            ..rule("DNxHR", "d.mov", "-c:v dnxhd -profile:v dnxhr_hq -pix_fmt yuv422p -colorspace bt709")
        },
        rule("PNG in MOV", "n.mov", "-c:v png -pix_fmt rgb24"),
        rule("Animation in MOV", "q.mov", "-c:v qtrle -pix_fmt rgb24"),
        rule("uncompressed in AVI", "r.avi", "-c:v rawvideo -pix_fmt bgr24"),
        rule("Theora in MKV", "t.mkv", "-c:v libtheora -q:v 10 -g 1"),
        rule("HuffYUV in AVI", "h.avi", "-c:v huffyuv -pix_fmt yuv422p"),
    ];
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for mut rule in rules {
        // What has no tag for its matrix is BT.601 at this size.
        if !rule.codec.contains("bt709") {
            rule.filters = "format=rgb24";
        }
        if rule.codec.contains("prores") {
            rule.warnings = &["8 bits"];
        }
        check(&bench, &engine, &rule);
    }
}

#[test]
fn one_frame_and_high_rates_are_kept() {
    check_all(&[
        Rule { name: "one frame", picture: ("128x96", 25, 1), frames: 1, ..USUAL },
        Rule { name: "one frame that claims 240 fps", picture: ("128x96", 240, 1), frames: 1, ..USUAL },
        Rule { name: "120 fps", picture: ("128x96", 120, 24), frames: 24, fps: 120.0, ..USUAL },
        Rule {
            name: "NTSC in whole milliseconds",
            file: "c.mkv",
            picture: ("128x96", 30, 15),
            filters: "settb=1/30000,setpts=N*1001,scale=out_color_matrix=bt709,format=yuv420p",
            codec: "-r 30000/1001 -c:v libx264 -preset ultrafast -crf 6 -colorspace bt709",
            frames: 15,
            fps: 29.97,
            ..USUAL
        },
    ]);
    let bench = Bench::new();
    let too_fast = make(&bench, &Rule { picture: ("128x96", 240, 48), ..USUAL });
    let found = free_engine(&bench).probe(&too_fast, &MediaLimits::default());
    assert!(matches!(found, Err(EngineError::Limit(LimitExceeded::FrameRate { .. }))), "{found:?}");
}

/// Under alpha 0 the source is as bright as the box: dropped instead of flattened, everything would be subject.
#[test]
fn a_transparent_source_lies_on_black() {
    let holes = "format=rgba,geq=r=120:g=255:b=80:a='if(between(X,W/8,3*W/8-1)*between(Y,H/8,H/2-1),255,0)'";
    let rule = |name, file, codec| Rule { name, file, filters: holes, codec, ..USUAL };
    let rules = [
        rule(
            "VP9 with alpha",
            "9.webm",
            "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime -crf 8 -b:v 0 -pix_fmt yuva420p -auto-alt-ref 0",
        ),
        rule(
            "VP8 with alpha",
            "8.webm",
            "-c:v libvpx -crf 4 -b:v 2M -pix_fmt yuva420p -auto-alt-ref 0 -metadata:s:v:0 alpha_mode=1",
        ),
        rule("ProRes 4444", "p.mov", "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le"),
        rule("PNG in MOV", "n.mov", "-c:v png -pix_fmt rgba"),
        rule("Animation in MOV", "q.mov", "-c:v qtrle -pix_fmt argb"),
    ];
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for rule in rules {
        let deep = rule.codec.contains("prores");
        let warnings: &[&str] = if deep { &["8 bits", "transparency"] } else { &["transparency"] };
        check(&bench, &engine, &Rule { warnings, ..rule });
    }
}

/// How much neighbouring rows differ more than rows of the same field: combs.
fn combs(luma: &[u8], width: usize) -> f64 {
    let rows: Vec<&[u8]> = luma.chunks_exact(width).collect();
    let apart = |a: &[u8], b: &[u8]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum() };
    let next: f64 = rows.windows(2).map(|pair| apart(pair[0], pair[1])).sum();
    let same_field: f64 = rows.windows(3).map(|three| apart(three[0], three[2])).sum();
    next / same_field.max(1.0)
}

#[test]
fn interlaced_pictures_lose_their_combs() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for (order, filter, file) in
        [("top first", "interleave_top", "i.mp4"), ("bottom first", "interleave_bottom", "i.mkv")]
    {
        // A box that moves 6 px from field to field.
        let source = "color=c=0x182030:s=192x96:r=50:d=0.8,format=yuv420p";
        let moving = format!(
            "drawbox=x=0:y=24:w=48:h=48:color=white:t=fill,geq=lum='if(between(X-mod(N*6,144),0,47)*between(Y,24,71),235,40)':cb=128:cr=128,\
             tinterlace={filter},setfield={}",
            if filter == "interleave_top" { "tff" } else { "bff" }
        );
        let codec = "-c:v libx264 -crf 6 -flags +ilme+ildct -colorspace bt709 -x264-params";
        let fields = if filter == "interleave_top" { "tff=1" } else { "bff=1" };
        let mut arguments = vec!["-f", "lavfi", "-i", source, "-vf", &moving];
        arguments.extend(codec.split(' '));
        arguments.push(fields);
        let clip = bench.make(file, &arguments);
        let order_spec = spec(Model::Human, OutputFormat::Mp4, Background::Color { color: Rgb([0, 0, 0]) });
        let (output, finished) = bench.run(&engine, &clip, &order_spec).unwrap();
        assert!(finished.warnings.iter().any(|warning| warning.contains("interlaced")), "{:?}", finished.warnings);
        assert_eq!((finished.output.frames, finished.output.fps), (20, 25.0), "{order}");
        let mean = |path: &Path| combs(&raw(path, &[], "format=gray", "gray"), 192);
        let (before, after) = (mean(&clip), mean(&output));
        assert!(before > 1.5 && after < 0.9, "{order}: {before:.2} became {after:.2}");
    }
}

/// Frames of two sizes in one stream: the first one's counts, and none is lost.
#[test]
fn a_stream_that_changes_its_size_keeps_the_first() {
    let bench = Bench::new();
    let vp8 = "-c:v libvpx -crf 4 -b:v 2M";
    make(&bench, &Rule { file: "small.webm", codec: vp8, filters: "format=yuv420p", ..USUAL });
    make(
        &bench,
        &Rule { file: "large.webm", picture: ("256x192", 25, 8), codec: vp8, filters: "format=yuv420p", ..USUAL },
    );
    std::fs::write(bench.path("list.txt"), "file small.webm\nfile large.webm\n").unwrap();
    let list = bench.path("list.txt");
    let both = bench.make("both.webm", &["-f", "concat", "-i", list.to_str().unwrap(), "-c", "copy"]);
    let (output, finished) = bench.run(&free_engine(&bench), &both, &transparent(Model::Human)).unwrap();
    assert_eq!((finished.output.width, finished.output.height, finished.output.frames), (128, 96, 16));
    let pixels = raw(&output, &["-c:v", "libvpx-vp9"], "scale=in_color_matrix=bt709:in_range=tv", "rgba");
    for frame in pixels.chunks_exact(128 * 96 * 4) {
        check_frame("both", frame, (128, 96), &USUAL);
    }
}

#[test]
fn what_is_no_accepted_container_or_codec_is_refused_by_name() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for (file, codec) in [("c.gif", "-c:v gif"), ("c.ts", H264), ("c.flv", "-c:v flv"), ("c.ogv", "-c:v libtheora")] {
        let clip = make(&bench, &Rule { file, codec, filters: "null", ..USUAL });
        let found = engine.probe(&clip, &MediaLimits::default());
        assert!(matches!(found, Err(EngineError::NotAVideo)), "{file}: {found:?}");
    }
    for (file, codec, name) in [("c.avi", "-c:v flv", "flv1"), ("c.mkv", "-c:v snow -strict -2", "snow")] {
        let clip = make(&bench, &Rule { file, codec, filters: "format=yuv420p", ..USUAL });
        let found = engine.probe(&clip, &MediaLimits::default());
        assert!(matches!(&found, Err(EngineError::Codec { name: found }) if found == name), "{file}: {found:?}");
    }
}
