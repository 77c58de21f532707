//! What stands behind the subject: pictures, videos, the blurred source; and where the subject stands.

use std::path::PathBuf;

use rotoless_contract::JobSpec;
use rotoless_contract::spec::{Anchor, Background, Composition, Fit, Model, OutputFormat, Rgb};
use rotoless_matting::Engine;

use crate::support::{Bench, box_clip, free_engine, raw, spec};

fn image(fit: Fit) -> Background {
    Background::Image { image_url: "its file comes with the job".into(), fit }
}

fn video(fit: Fit) -> Background {
    Background::Video { video_url: "its file comes with the job".into(), fit }
}

/// A picture of three upright stripes: red, green, blue, each a third of its width.
fn stripes(bench: &Bench, name: &str, width: u32, height: u32) -> PathBuf {
    let third = width / 3;
    let source = format!("color=c=0x00ff00:s={width}x{height},format=rgb24");
    let boxes = format!(
        "drawbox=x=0:y=0:w={third}:h={height}:color=0xff0000:t=fill,\
         drawbox=x={}:y=0:w={width}:h={height}:color=0x0000ff:t=fill,format=rgb24",
        2 * third
    );
    bench.make(name, &["-f", "lavfi", "-i", &source, "-vf", &boxes, "-frames:v", "1", "-update", "1"])
}

/// The frames of a job's MP4 as RGB, and their size.
fn shown(bench: &Bench, engine: &Engine, order: &JobSpec, clip: &std::path::Path) -> (Vec<u8>, [usize; 2]) {
    let (output, finished) = bench.run(engine, clip, order).unwrap();
    assert!(!finished.output.has_alpha);
    let pixels = raw(&output, &[], "scale=in_color_matrix=bt709:out_range=pc", "rgb24");
    (pixels, [finished.output.width as usize, finished.output.height as usize])
}

/// The one of the pure colours that a pixel is, by its letter; `-` for none.
fn letter(pixel: &[u8]) -> char {
    match *pixel {
        [r, g, b] if r > 215 && g < 40 && b < 40 => 'r',
        [r, g, b] if r < 40 && g > 215 && b < 40 => 'g',
        [r, g, b] if r < 40 && g < 40 && b > 215 => 'b',
        [r, g, b] if r > 225 && g > 225 && b > 225 => 'w',
        [r, g, b] if r < 25 && g < 25 && b < 25 => 'k',
        _ => '-',
    }
}

fn letters(pixels: &[u8], width: usize, places: &[(usize, usize)]) -> String {
    places.iter().map(|(x, y)| letter(&pixels[(y * width + x) * 3..][..3])).collect()
}

fn mp4(background: Background) -> JobSpec {
    spec(Model::Human, OutputFormat::Mp4, background)
}

#[test]
fn a_picture_is_fitted_as_ordered_in_each_of_its_formats() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 3, &["-an"]);
    // Left, middle, right in the last row, which is below the subject; then the subject.
    let places = [(8, 86), (80, 86), (152, 86), (40, 45)];
    for name in ["wide.png", "wide.jpg", "wide.webp"] {
        bench.background = Some(stripes(&bench, name, 900, 90));
        for (fit, expected) in [(Fit::Cover, "gggw"), (Fit::Contain, "kkkw"), (Fit::Stretch, "rgbw")] {
            let (pixels, [width, _]) = shown(&bench, &engine, &mp4(image(fit)), &clip);
            assert_eq!(letters(&pixels, width, &places), expected, "{name} {fit:?}");
        }
    }
    // As wide as high, so that all of it stands in the middle.
    bench.background = Some(stripes(&bench, "square.png", 300, 300));
    let (pixels, [width, _]) = shown(&bench, &engine, &mp4(image(Fit::Contain)), &clip);
    assert_eq!(letters(&pixels, width, &[(20, 5), (45, 5), (80, 5), (115, 5), (140, 5)]), "krgbk");
}

#[test]
fn pictures_of_any_shape_and_depth_are_taken() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 1, &["-an"]);
    let red = ["-f", "lavfi", "-i", "color=c=0xff0000:s=64x4000", "-frames:v", "1", "-vf"];
    for (name, filter) in [
        ("dot.png", "format=rgb24,crop=1:1"),
        ("thread.png", "format=rgb24,crop=1:4000"),
        ("beam.png", "format=rgb24,crop=1:4000,transpose"),
        ("deep.png", "format=rgba64be,crop=63:61"),
        ("palette.png", "format=pal8,crop=63:61"),
    ] {
        bench.background = Some(bench.make(name, &[&red[..], &[filter]].concat()));
        for fit in [Fit::Cover, Fit::Stretch, Fit::Contain] {
            let (pixels, [width, _]) = shown(&bench, &engine, &mp4(image(fit)), &clip);
            let found = letters(&pixels, width, &[(80, 45), (40, 45)]);
            assert!(found == "rw" || fit == Fit::Contain && found.ends_with('w'), "{name} {fit:?} {found}");
        }
    }
}

#[test]
fn the_transparency_of_a_picture_lies_on_black() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 1, &["-an"]);
    let clear = ["-f", "lavfi", "-i", "color=c=0xff0000@0.0:s=64x64,format=rgba", "-frames:v", "1"];
    bench.background = Some(bench.make("clear.png", &clear));
    let (pixels, [width, _]) = shown(&bench, &engine, &mp4(image(Fit::Cover)), &clip);
    assert_eq!(letters(&pixels, width, &[(140, 45), (40, 45)]), "kw");
}

/// 10 frames a second behind 25: red and blue take turns, half a second each, then all over again.
#[test]
fn a_video_runs_in_its_own_time_and_begins_again() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 60, &["-an"]);
    let blink = "drawbox=enable='gte(n,5)':color=0x0000ff:t=fill";
    let source = ["-f", "lavfi", "-i", "color=c=0xff0000:s=320x180:r=10:d=1,format=rgb24", "-vf", blink];
    let codec = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", "5", "-g", "5"];
    for name in ["turns.mp4", "turns.webm"] {
        let codec =
            if name.ends_with("webm") { &["-c:v", "libvpx-vp9", "-crf", "10", "-b:v", "0"] } else { &codec[..] };
        bench.background = Some(bench.make(name, &[&source[..], codec].concat()));
        let (pixels, [width, height]) = shown(&bench, &engine, &mp4(video(Fit::Cover)), &clip);
        let ground: String =
            pixels.chunks_exact(width * height * 3).map(|frame| letters(frame, width, &[(140, 45)])).collect();
        let turns: Vec<(char, usize)> = ground.chars().fold(Vec::new(), |mut turns, colour| {
            match turns.last_mut() {
                Some((last, count)) if *last == colour => *count += 1,
                _ => turns.push((colour, 1)),
            }
            turns
        });
        let colours: String = turns.iter().map(|(colour, _)| *colour).collect();
        assert_eq!(colours, "rbrbr", "{ground}");
        assert!(turns[..4].iter().all(|(_, count)| (12..=13).contains(count)), "{name} {turns:?}");
        assert!(pixels.chunks_exact(width * height * 3).all(|frame| letters(frame, width, &[(40, 45)]) == "w"));
    }
}

/// Longer than what is kept in memory, so that its decoder starts again; and shorter than the clip.
#[test]
fn a_video_too_large_to_be_kept_begins_again_all_the_same() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    let canvas = Composition { width: 1280, height: 720, anchor: Anchor::Center, scale: 1.0, offset: [0, 0] };
    let clip = box_clip(&bench, "in.mp4", "64x36", 25, 110, &["-an"]);
    // 50 frames of 1280x720 are 69 MB.
    let blink = "drawbox=enable='gte(n,25)':color=0x0000ff:t=fill";
    let source = ["-f", "lavfi", "-i", "color=c=0xff0000:s=64x36:r=25:d=2,format=rgb24", "-vf", blink];
    let codec = ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", "5"];
    bench.background = Some(bench.make("long.mp4", &[&source[..], &codec].concat()));
    let order = JobSpec { composition: Some(canvas), ..mp4(video(Fit::Cover)) };
    let (pixels, [width, height]) = shown(&bench, &engine, &order, &clip);
    let ground: String =
        pixels.chunks_exact(width * height * 3).map(|frame| letters(frame, width, &[(1200, 360)])).collect();
    assert_eq!(ground, format!("{r}{b}{r}{b}{}", &"r".repeat(10), r = "r".repeat(25), b = "b".repeat(25)));
}

#[test]
fn a_blurred_background_is_the_source_without_its_detail() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "320x180", 25, 3, &["-an"]);
    let (output, _) = bench.run(&engine, &clip, &mp4(Background::Blur)).unwrap();
    let luma = |path: &std::path::Path| raw(path, &[], "crop=iw/2:ih:iw/2:0", "gray");
    let (before, after) = (luma(&clip), luma(&output));
    let busy = |luma: &[u8]| {
        // Neighbours that are clearly apart: a slope is no detail.
        let steps = |row: &[u8]| row.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) > 3).count();
        luma.chunks_exact(160).map(steps).sum::<usize>() as f64 / luma.len() as f64
    };
    let mean = |luma: &[u8]| luma.iter().map(|&value| f64::from(value)).sum::<f64>() / luma.len() as f64;
    assert!(busy(&before) > 0.02 && busy(&after) < busy(&before) / 50.0, "{} {}", busy(&before), busy(&after));
    assert!((mean(&before) - mean(&after)).abs() < 4.0, "{} {}", mean(&before), mean(&after));
    let pixels = raw(&output, &[], "scale=in_color_matrix=bt709:out_range=pc", "rgb24");
    assert_eq!(letters(&pixels, 320, &[(80, 90)]), "w");
}

#[test]
fn the_foreground_stands_where_it_was_ordered_on_every_background() {
    let mut bench = Bench::new();
    let engine = free_engine(&bench);
    // The subject is 40x46 at (20, 22) of 160x90.
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 2, &["-an"]);
    bench.background =
        Some(bench.make("red.png", &["-f", "lavfi", "-i", "color=c=0xff0000:s=64x64", "-frames:v", "1"]));
    let at = |anchor, scale, offset| Some(Composition { width: 200, height: 400, anchor, scale, offset });
    for (composition, [x, y]) in [
        // Scaled by 200/160: 200x112.5 px, the subject's middle at (50, 56).
        (at(Anchor::TopLeft, 1.0, [0, 0]), [50, 56]),
        (at(Anchor::Center, 1.0, [0, 0]), [50, 200]),
        (at(Anchor::BottomRight, 1.0, [0, 0]), [50, 344]),
        (at(Anchor::BottomRight, 0.5, [-20, -31]), [105, 341]),
        (at(Anchor::Center, 2.0, [51, 0]), [51, 200]),
    ] {
        for background in [image(Fit::Cover), Background::Color { color: Rgb([255, 0, 0]) }] {
            let order = JobSpec { composition: composition.clone(), ..mp4(background) };
            let (pixels, [width, height]) = shown(&bench, &engine, &order, &clip);
            assert_eq!((width, height), (200, 400));
            let found = letters(&pixels, width, &[(x, y), (190, 10), (190, 390)]);
            assert_eq!(found, "wrr", "{composition:?}");
        }
        let order = JobSpec { composition, ..spec(Model::Human, OutputFormat::PngSequence, Background::Transparent) };
        let (_, finished) = bench.run(&engine, &clip, &order).unwrap();
        assert_eq!((finished.output.width, finished.output.height, finished.output.has_alpha), (200, 400, true));
    }
}

/// The matrix of the contract: every background in every format, and the same on a canvas.
#[test]
fn every_background_works_in_every_format() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let clip = box_clip(&bench, "in.mp4", "160x90", 25, 6, &[]);
    let picture = stripes(&bench, "stripes.png", 300, 200);
    let moving = box_clip(&bench, "behind.mp4", "96x64", 10, 2, &["-an"]);
    let canvas = Composition { width: 100, height: 120, anchor: Anchor::BottomCenter, scale: 1.25, offset: [3, -7] };
    for composition in [None, Some(canvas)] {
        for format in OutputFormat::ALL.iter().copied() {
            for background in [
                Background::Transparent,
                Background::Color { color: Rgb([9, 162, 70]) },
                image(Fit::Contain),
                video(Fit::Cover),
                Background::Blur,
            ] {
                let is_transparent = background == Background::Transparent;
                if is_transparent && !format.has_alpha() {
                    continue;
                }
                let file = match background {
                    Background::Image { .. } => Some(picture.clone()),
                    Background::Video { .. } => Some(moving.clone()),
                    Background::Transparent | Background::Color { .. } | Background::Blur => None,
                };
                let bench = Bench { background: file, ..Bench::new() };
                let order = JobSpec { composition: composition.clone(), ..spec(Model::Human, format, background) };
                let (_, finished) = bench.run(&engine, &clip, &order).unwrap_or_else(|e| panic!("{order:?}: {e:?}"));
                let info = &finished.output;
                assert_eq!((info.frames, info.has_alpha), (6, is_transparent), "{order:?}");
                assert_eq!(info.has_audio, format.has_audio(), "{order:?}");
                let size = if composition.is_some() { (100, 120) } else { (160, 90) };
                assert_eq!((info.width, info.height), size, "{order:?}");
            }
        }
    }
}
