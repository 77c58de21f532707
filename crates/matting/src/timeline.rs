//! The constant timeline that a job is worked on, made of the timestamps that were found.
//!
//! Owns: choosing the frame rate, counting the frames, refusing gaps. Does not own: reading timestamps (`probe`),
//! resampling frames (ffmpeg's `fps` filter in `decode`).
//! Invariants: nothing here comes from a header but the fall-back rate of a clip with a single frame; the number of
//! frames is bounded by the limits, whatever the timestamps say.

use rotoless_contract::worker::MediaLimits;

use crate::error::LimitExceeded;

/// Greatest time between two frames, and before the first.
pub(crate) const MAX_GAP_SECONDS: u32 = 10;

/// The rate of a clip that does not tell any.
const FALLBACK_RATE: Rate = Rate { num: 25, den: 1 };

/// The least rate of a clip whose frames do not stand at constant distances: a change of the picture is shown at most
/// half a frame early or late, and sound goes with it.
const MIN_VARIABLE_FPS: f64 = 10.0;

/// Bursts faster than this are not followed: nobody sees them, and every frame costs a run of the model.
const MAX_BURST_FPS: f64 = 60.0;

/// Rates that cameras and editors use.
const USUAL_RATES: &[Rate] = &[
    Rate { num: 24000, den: 1001 },
    Rate { num: 24, den: 1 },
    Rate { num: 25, den: 1 },
    Rate { num: 30000, den: 1001 },
    Rate { num: 30, den: 1 },
    Rate { num: 48, den: 1 },
    Rate { num: 50, den: 1 },
    Rate { num: 60000, den: 1001 },
    Rate { num: 60, den: 1 },
    Rate { num: 100, den: 1 },
    Rate { num: 120, den: 1 },
];

/// Frames a second as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub num: u32,
    pub den: u32,
}

impl Rate {
    pub(crate) fn fps(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// Whole milliseconds that so many frames last, rounded.
    pub(crate) fn duration_ms(self, frames: u64) -> u64 {
        let (num, den) = (u128::from(self.num), u128::from(self.den));
        let ms = (u128::from(frames) * den * 1000 + num / 2) / num;
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    /// Frames that fit so many seconds, rounded up.
    pub(crate) fn frames_in(self, seconds: u64) -> u64 {
        let frames = (u128::from(seconds) * u128::from(self.num)).div_ceil(u128::from(self.den));
        u64::try_from(frames).unwrap_or(u64::MAX)
    }

    /// How many frames of another rate last as long as so many of this one; at least 1.
    pub(crate) fn resampled(self, frames: u64, to: Self) -> u64 {
        let num = u128::from(frames) * u128::from(self.den) * u128::from(to.num);
        let den = u128::from(self.num) * u128::from(to.den);
        u64::try_from((num + den / 2) / den.max(1)).unwrap_or(u64::MAX).max(1)
    }

    /// Whether it is more frames a second than the other.
    pub(crate) fn exceeds(self, other: Self) -> bool {
        u64::from(self.num) * u64::from(other.den) > u64::from(other.num) * u64::from(self.den)
    }

    /// `"30000/1001"`; `None` for `"0/0"` and whatever is not a positive fraction of sane size.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (num, den) = text.split_once('/')?;
        let rate = Self { num: num.parse().ok()?, den: den.parse().ok()? };
        (rate.num > 0 && rate.den > 0).then_some(rate)
    }

    /// The fraction nearest to a number of frames a second, in thousandths.
    fn nearest(fps: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the type's range")]
        let num = (fps * 1000.0).round().clamp(1.0, f64::from(u32::MAX)) as u32;
        Self { num, den: 1000 }.reduced()
    }

    fn reduced(self) -> Self {
        let (mut a, mut b) = (self.num, self.den);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self { num: self.num / a.max(1), den: self.den / a.max(1) }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// One frame as the container announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it is shown, in ticks.
    pub at: i64,
    /// How long, in ticks; 0 when unknown.
    pub duration: i64,
}

/// The timeline of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Timeline {
    pub rate: Rate,
    /// Frames on it; at least 1.
    pub frames: u64,
    /// The source's own frames do not stand at constant distances.
    pub is_variable: bool,
    /// The picture is shown so many seconds earlier, always less than a frame: its first frame stands on the timeline.
    /// Otherwise the few ms that a sound codec starts before the picture would make, and cost, a frame.
    pub shift_seconds: f64,
    /// When the first frame is shown; before that it stands still.
    pub first_seconds: f64,
}

/// Why there is no timeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NoTimeline {
    /// No frame is shown.
    Empty,
    /// More than what is accepted.
    Limit(LimitExceeded),
}

impl Timeline {
    /// Builds it. `stamps` in any order; `tick` is the length of a tick in seconds; `origin` the start of the file
    /// in seconds, which ffmpeg makes the zero of picture and sound; `declared` the rate that the header claims.
    pub(crate) fn build(
        mut stamps: Vec<Stamp>,
        tick: f64,
        origin: f64,
        declared: Option<Rate>,
        limits: &MediaLimits,
    ) -> Result<Self, NoTimeline> {
        stamps.sort_unstable_by_key(|stamp| stamp.at);
        stamps.dedup_by_key(|stamp| stamp.at);
        let (Some(first), Some(last)) = (stamps.first().copied(), stamps.last().copied()) else {
            return Err(NoTimeline::Empty);
        };
        let steps: Vec<i64> = stamps.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at)).collect();
        let widest = steps.iter().copied().max().unwrap_or(0);
        let gap = (seconds(widest, tick)).max(seconds(first.at, tick) - origin);
        if gap > f64::from(MAX_GAP_SECONDS) {
            return Err(NoTimeline::Limit(LimitExceeded::Gap { seconds: gap, max_seconds: MAX_GAP_SECONDS }));
        }

        let (rate, is_variable) = choose_rate(&stamps, &steps, tick, declared, limits)?;
        let last_duration = match seconds(last.duration, tick) {
            told if told > 0.0 && told <= f64::from(MAX_GAP_SECONDS) => told,
            _ => 1.0 / rate.fps(),
        };
        let offset = seconds(first.at, tick) - origin;
        // A hundredth of a frame is rounding.
        let lead = (offset * rate.fps() + 0.01).floor().max(0.0);
        let shift_seconds = if offset > 0.0 { offset - lead / rate.fps() } else { 0.0 };
        let first_seconds = (offset - shift_seconds).max(0.0);
        let length = (seconds(last.at, tick) + last_duration - origin - shift_seconds).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; saturates")]
        let found_ms = (length * 1000.0).round() as u64;
        if found_ms > limits.max_duration_ms {
            return Err(NoTimeline::Limit(LimitExceeded::Duration { found_ms, max_ms: limits.max_duration_ms }));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the limits above")]
        let frames = ((length * rate.fps()).round() as u64).max(1);
        Ok(Self { rate, frames, is_variable, shift_seconds, first_seconds })
    }
}

fn seconds(ticks: i64, tick: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "ticks beyond 2^53 are no time that any limit lets through")]
    let ticks = ticks as f64;
    ticks * tick
}

fn choose_rate(
    stamps: &[Stamp],
    steps: &[i64],
    tick: f64,
    declared: Option<Rate>,
    limits: &MediaLimits,
) -> Result<(Rate, bool), NoTimeline> {
    let max = f64::from(limits.max_fps);
    // Half a percent: 59.97 claimed as 60 is no reason to refuse.
    let too_fast = |fps: f64| fps > max * 1.005;
    let (Some(first), Some(last)) = (stamps.first(), stamps.last()) else { return Err(NoTimeline::Empty) };
    if steps.is_empty() {
        // One frame: a rate cannot be measured and its header is only believed within the limits.
        let rate = declared.filter(|rate| !too_fast(rate.fps())).unwrap_or(FALLBACK_RATE);
        return Ok((rate, false));
    }
    let span = seconds(last.at.saturating_sub(first.at), tick);
    #[expect(clippy::cast_precision_loss, reason = "counts of packets are far below 2^53")]
    let average = steps.len() as f64 / span;
    if too_fast(average) {
        return Err(NoTimeline::Limit(LimitExceeded::FrameRate { fps: average, max: limits.max_fps }));
    }
    // One frame every few seconds is no rate: a timeline of so long frames could not end with the last one.
    if average >= 1.0 && is_constant(stamps, tick, average) {
        return Ok((snapped(average, span, declared), false));
    }
    let fps = variable_fps(steps, tick, average).clamp(MIN_VARIABLE_FPS.min(max), max);
    let usual = usual_rate(fps).filter(|rate| !too_fast(rate.fps()));
    Ok((usual.unwrap_or_else(|| Rate::nearest(fps)), true))
}

/// The usual rate nearest to this one, if it is within 2 %.
fn usual_rate(fps: f64) -> Option<Rate> {
    let apart = |rate: &Rate| (rate.fps() / fps - 1.0).abs();
    let nearest = USUAL_RATES.iter().copied().min_by(|a, b| apart(a).total_cmp(&apart(b)));
    nearest.filter(|rate| apart(rate) < 0.02)
}

/// The most usual distance, not the mean: a phone's 29.8 frames a second are 30 with some missing. But a recording of a
/// screen stands still for most of the time and moves in bursts: then those count.
fn variable_fps(steps: &[i64], tick: f64, average: f64) -> f64 {
    let mut sorted = steps.to_vec();
    sorted.sort_unstable();
    let step = |place: usize| seconds(sorted.get(place).copied().unwrap_or(1).max(1), tick);
    let (median, tenth) = (step(sorted.len() / 2), step(sorted.len() / 10));
    if tenth * 1.8 < median {
        return (1.0 / tenth).min(MAX_BURST_FPS).max(1.0 / median);
    }
    // Most distances alike: what differs are frames that are missing. Otherwise it is jitter, which keeps the mean.
    let alike = steps.iter().filter(|step| (seconds(**step, tick) - median).abs() <= tick.max(0.001)).count();
    if alike * 10 < steps.len() * 6 && usual_rate(average).is_some() { average } else { 1.0 / median }
}

/// Whether every frame stands where a constant rate puts it, but for the rounding of timestamps.
fn is_constant(stamps: &[Stamp], tick: f64, average: f64) -> bool {
    let Some(first) = stamps.first() else { return true };
    // WebM and MKV round to 1 ms; two roundings can add up. Where a tick is as long as a frame (AVI) nothing is rounded.
    let tolerance = (tick.max(0.001) * 1.5).min(0.4 / average);
    stamps.iter().enumerate().all(|(number, stamp)| {
        #[expect(clippy::cast_precision_loss, reason = "counts of packets are far below 2^53")]
        let expected = number as f64 / average;
        (seconds(stamp.at.saturating_sub(first.at), tick) - expected).abs() <= tolerance
    })
}

/// The declared or a usual rate, if it drifts by less than a quarter of a frame over the clip; else the measured one.
fn snapped(average: f64, span: f64, declared: Option<Rate>) -> Rate {
    declared
        .into_iter()
        .chain(USUAL_RATES.iter().copied())
        .find(|rate| {
            let drift_frames = (rate.fps() - average).abs() * span;
            drift_frames < 0.25 && (rate.fps() / average - 1.0).abs() < 0.01
        })
        .unwrap_or_else(|| Rate::nearest(average))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 0.001;

    fn at(ticks: &[i64]) -> Vec<Stamp> {
        ticks.iter().map(|&at| Stamp { at, duration: 0 }).collect()
    }

    fn build(stamps: Vec<Stamp>, tick: f64) -> Result<Timeline, NoTimeline> {
        Timeline::build(stamps, tick, 0.0, None, &MediaLimits::default())
    }

    #[test]
    fn rounded_timestamps_of_ntsc_are_a_constant_rate() {
        let stamps: Vec<i64> = (0..300).map(|n| (f64::from(n) * 1001.0 / 30.0).round() as i64).collect();
        let timeline = build(at(&stamps), MS).unwrap();
        assert_eq!((timeline.rate, timeline.frames), (Rate { num: 30000, den: 1001 }, 300));
        assert!(!timeline.is_variable && timeline.shift_seconds == 0.0 && timeline.first_seconds == 0.0);
    }

    #[test]
    fn missing_frames_are_filled_on_the_timeline() {
        let stamps: Vec<i64> = (0..100).filter(|n| n % 10 != 3).map(|n| n * 40).collect();
        let timeline = build(at(&stamps), MS).unwrap();
        assert_eq!((timeline.rate, timeline.frames, timeline.is_variable), (Rate { num: 25, den: 1 }, 100, true));
    }

    /// A frame every two seconds, and in between a second of 60 frames.
    #[test]
    fn a_screen_that_stands_still_and_moves_in_bursts_is_followed() {
        let mut stamps: Vec<i64> = (0..40).map(|n| n * 2000).collect();
        stamps.extend((1..60).map(|n| 10_000 + n * 1000 / 60));
        let timeline = build(at(&stamps), MS).unwrap();
        assert!(timeline.is_variable && timeline.rate.fps() > 59.0, "{timeline:?}");
    }

    #[test]
    fn jitter_of_a_phone_does_not_make_another_rate() {
        let jitter = [0, 4, -5, 3, -2, 5, -4, 1, -3, 2];
        let stamps: Vec<i64> = (0..300).map(|n| n * 1000 / 30 + jitter[n as usize % 10]).collect();
        let timeline = build(at(&stamps), MS).unwrap();
        assert_eq!((timeline.rate, timeline.frames, timeline.is_variable), (Rate { num: 30, den: 1 }, 300, true));
    }

    /// 23.75 frames a second on the average are near a usual rate, and it is not theirs.
    #[test]
    fn one_missing_frame_of_twenty_does_not_make_another_rate() {
        let stamps: Vec<i64> = (0..21).filter(|n| *n != 1).collect();
        let timeline = build(at(&stamps), 0.04).unwrap();
        assert_eq!((timeline.rate, timeline.frames), (Rate { num: 25, den: 1 }, 21));
    }

    #[test]
    fn two_frames_far_apart_end_soon_after_the_second() {
        let mut stamps = at(&[0, 9000]);
        stamps[1].duration = 40;
        let timeline = build(stamps, MS).unwrap();
        assert_eq!((timeline.rate, timeline.frames), (Rate { num: 10, den: 1 }, 90));
    }

    #[test]
    fn a_gap_of_hours_is_refused_instead_of_filled() {
        let found = build(at(&[0, 40, 36_000_000]), MS);
        assert!(matches!(found, Err(NoTimeline::Limit(LimitExceeded::Gap { .. }))), "{found:?}");
        let late_start = build(at(&[36_000_000, 36_000_040]), MS);
        assert!(matches!(late_start, Err(NoTimeline::Limit(LimitExceeded::Gap { .. }))), "{late_start:?}");
    }

    #[test]
    fn gaps_are_accepted_up_to_the_limit() {
        assert!(build(at(&[0, 10_000]), MS).is_ok());
        assert!(build(at(&[0, 10_001]), MS).is_err());
    }

    #[test]
    fn a_picture_that_starts_late_is_led_by_whole_frames_only() {
        let late = |ms: i64| build(at(&(0..75).map(|n| n * 40 + ms).collect::<Vec<_>>()), MS).unwrap();
        assert_eq!(late(21).frames, 75);
        assert!((late(21).shift_seconds - 0.021).abs() < 1e-9);
        assert_eq!(late(100).frames, 77);
        assert!((late(100).shift_seconds - 0.020).abs() < 1e-9);
    }

    #[test]
    fn a_single_frame_lasts_one_frame() {
        let timeline = build(at(&[0]), MS).unwrap();
        assert_eq!(timeline.frames, 1);
        let lying = Timeline::build(at(&[0]), MS, 0.0, Rate::parse("100000/1"), &MediaLimits::default()).unwrap();
        assert_eq!((lying.rate, lying.frames), (FALLBACK_RATE, 1));
    }

    #[test]
    fn too_many_frames_a_second_and_too_long_are_refused() {
        let limits = MediaLimits { max_fps: 30, max_duration_ms: 2000, ..MediaLimits::default() };
        let fast: Vec<i64> = (0..60).map(|n| n * 20).collect();
        let found = Timeline::build(at(&fast), MS, 0.0, None, &limits);
        assert!(matches!(found, Err(NoTimeline::Limit(LimitExceeded::FrameRate { .. }))), "{found:?}");
        let long: Vec<i64> = (0..51).map(|n| n * 40).collect();
        let found = Timeline::build(at(&long), MS, 0.0, None, &limits);
        assert!(matches!(found, Err(NoTimeline::Limit(LimitExceeded::Duration { .. }))), "{found:?}");
        assert!(Timeline::build(at(&long[..50]), MS, 0.0, None, &limits).is_ok());
    }

    #[test]
    fn hostile_timestamps_give_an_error_not_a_panic() {
        for stamps in [vec![], vec![i64::MIN, i64::MAX], vec![i64::MAX], vec![i64::MIN]] {
            let _ = build(at(&stamps), MS);
            let _ = Timeline::build(at(&stamps), 0.0, f64::NAN, None, &MediaLimits::default());
        }
    }

    #[test]
    fn durations_round_and_budgets_round_up() {
        let ntsc = Rate { num: 30000, den: 1001 };
        assert_eq!(ntsc.duration_ms(300), 10_010);
        assert_eq!(ntsc.frames_in(10), 300);
        assert_eq!(Rate { num: 25, den: 1 }.frames_in(3), 75);
    }
}
