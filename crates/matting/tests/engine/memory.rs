//! Memory does not grow with the length of a clip (G-13).

use rotoless_contract::spec::{Background, Model, OutputFormat, Rgb};

use crate::support::{Bench, box_clip, free_engine, spec};

fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_clip_six_times_as_long_takes_no_more_memory() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    let green = Background::Color { color: Rgb([0, 255, 0]) };
    let order = spec(Model::Human, OutputFormat::Mp4, green);
    let mut peaks = Vec::new();
    for seconds in [10, 60] {
        let clip = box_clip(&bench, "in.mp4", "320x180", 25, 25 * seconds, &["-preset", "ultrafast"]);
        bench.run(&engine, &clip, &order).unwrap();
        peaks.push(peak_kilobytes());
    }
    // A kept frame is 144 KB: 1250 of them would be 180 MB.
    assert!(peaks[1] < peaks[0] + 16 * 1024, "{peaks:?}");
}

/// The largest of the children that were waited for, KB.
fn peak_of_children_kilobytes() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    u64::try_from(usage.max_rss()).unwrap()
}

#[test]
fn the_picture_formats_take_no_more_memory_for_a_longer_clip() {
    let bench = Bench::new();
    let engine = free_engine(&bench);
    for format in [OutputFormat::Gif, OutputFormat::Webp, OutputFormat::PngSequence] {
        let order = spec(Model::Human, format, Background::Blur);
        let mut peaks = Vec::new();
        for seconds in [4, 24] {
            let clip = box_clip(&bench, "in.mp4", "320x180", 25, 25 * seconds, &["-preset", "ultrafast", "-an"]);
            bench.run(&engine, &clip, &order).unwrap();
            peaks.push((peak_kilobytes(), peak_of_children_kilobytes()));
        }
        println!("{format}: ours and the tools' {peaks:?} KB");
        // 500 frames more: kept as RGBA they would be 115 MB.
        let ((ours, tools), (ours_then, tools_then)) = (peaks[0], peaks[1]);
        assert!(ours_then < ours + 16 * 1024 && tools_then < tools + 24 * 1024, "{format} {peaks:?}");
    }
}
