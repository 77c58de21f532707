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
