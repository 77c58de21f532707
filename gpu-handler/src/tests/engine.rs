//! An engine that follows a script. Its output is a real file with a real digest.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rotoless_contract::OutputFormat;
use rotoless_contract::media::{InputInfo, OutputInfo};
use rotoless_contract::signature::sha256_hex;
use rotoless_contract::worker::{FailureReason, MediaLimits, Stage};
use rotoless_matting::segments::Stored;
use rotoless_matting::{Finished, Watch};

use super::world::{Event, Log, SOURCE};
use crate::ailment::Ailment;
use crate::matting::{Fault, MatteFile, Matting, Measured, Order};

/// What the engine does with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// So many frames, each taking so long; stops when asked to.
    Frames(u64, Duration),
    /// The same, but the first job makes it panic in the middle.
    PanicOnce,
    /// The first frame never comes; stops when asked to.
    Stall,
    /// Does not even look at the stop flag, for this long.
    Deaf(Duration),
    /// Refuses the source.
    Invalid,
    /// Finds that the worker itself is not well.
    Ail(Ailment),
    /// Makes a file and spoils it after it was measured.
    Spoil,
    /// Stores a segment, and goes on for longer than any test waits; stops when asked to.
    SegmentAndOn,
    /// Stores a segment, looks whether it is there, and does not mind when it is not.
    Segment,
}

pub(super) struct ScriptedEngine {
    pub(super) script: Script,
    pub(super) log: Log,
    pub(super) jobs: AtomicU32,
}

impl Matting for std::sync::Arc<ScriptedEngine> {
    fn probe(&self, input: &Path, limits: &MediaLimits) -> Result<Box<dyn Measured>, Fault> {
        assert!(std::fs::metadata(input).unwrap().len() <= limits.max_bytes);
        self.log.add(Event::Probe);
        let info = InputInfo {
            width: 64,
            height: 36,
            fps: 25.0,
            codec: "h264".to_owned(),
            has_audio: false,
            duration_seconds: 2.0,
        };
        Ok(Box::new(Source { info, engine: self.clone() }))
    }
}

struct Source {
    info: InputInfo,
    engine: std::sync::Arc<ScriptedEngine>,
}

impl Measured for Source {
    fn info(&self) -> &InputInfo {
        &self.info
    }

    fn duration_ms(&self) -> u64 {
        2000
    }

    fn remove_background(&self, order: &Order, watch: &dyn Watch) -> Result<Finished, Fault> {
        assert!(order.work_dir.is_dir());
        self.engine.log.add(Event::Matte);
        if let Some(file) = &order.background {
            assert_eq!(std::fs::read(file).unwrap(), SOURCE);
            self.engine.log.add(Event::Background);
        }
        match &order.matte {
            MatteFile::Forget => {}
            MatteFile::Keep(file) => std::fs::write(file, b"gray").unwrap(),
            MatteFile::Reuse { file, made_for } => {
                assert_eq!((std::fs::read(file).unwrap().as_slice(), *made_for), (SOURCE, OutputFormat::Gif));
                self.engine.log.add(Event::ReuseMatte);
            }
        }
        let job = self.engine.jobs.fetch_add(1, Ordering::Relaxed);
        let frames = match self.engine.script {
            Script::Frames(frames, each) => matte(frames, each, watch)?,
            Script::Segment => segment(order),
            Script::SegmentAndOn => {
                segment(order);
                matte(1_000_000, Duration::from_millis(5), watch)?
            }
            Script::PanicOnce if job == 0 => panic!("poison"),
            Script::PanicOnce | Script::Spoil => matte(3, Duration::ZERO, watch)?,
            Script::Stall => matte(1, Duration::from_secs(600), watch)?,
            Script::Deaf(how_long) => {
                std::thread::sleep(how_long);
                1
            }
            Script::Ail(ailment) => {
                let reason = FailureReason::InternalError;
                return Err(Fault { reason, cancelled: false, ailment: Some(ailment), detail: "by script".to_owned() });
            }
            Script::Invalid => {
                let detail = "damaged at https://example.com/a?b".to_owned();
                return Err(Fault { reason: FailureReason::InvalidMedia, cancelled: false, ailment: None, detail });
            }
        };
        let content = format!("matte of {frames} frames").into_bytes();
        std::fs::write(&order.output, &content).unwrap();
        let output = OutputInfo {
            format: OutputFormat::Webm,
            size_bytes: content.len() as u64,
            sha256: sha256_hex(&content),
            width: 64,
            height: 36,
            fps: 25.0,
            frames,
            duration_ms: frames * 40,
            has_alpha: true,
            has_audio: false,
        };
        if self.engine.script == Script::Spoil {
            std::fs::write(&order.output, vec![b'x'; content.len()]).unwrap();
        }
        Ok(Finished { input: self.info.clone(), output, quality: None, warnings: vec!["w".repeat(1000); 100] })
    }
}

/// As many frames as segments were there when it began.
fn segment(order: &Order) -> u64 {
    const PLAN: &str = "0123456789abcdef0123456789abcdef";
    let Some(segments) = &order.segments else { return 99 };
    assert_eq!(segments.seconds, 1);
    let Ok(found) = segments.store.finished(PLAN) else { return 98 };
    let (file, copy) = (order.work_dir.join("segment"), order.work_dir.join("copy"));
    std::fs::write(&file, b"a segment").unwrap();
    let next = found.len() as u32;
    assert_eq!(segments.store.store(PLAN, next, &file).unwrap(), Stored::New);
    assert_eq!(segments.store.store(PLAN, next, &file).unwrap(), Stored::WasThere);
    segments.store.fetch(PLAN, next, &copy).unwrap();
    assert_eq!(std::fs::read(copy).unwrap(), b"a segment");
    segments.store.fetch(PLAN, 77, &file).unwrap_err();
    found.len() as u64 + 1
}

fn matte(frames: u64, each: Duration, watch: &dyn Watch) -> Result<u64, Fault> {
    for done in 0..frames {
        watch.progress(Stage::Matte, done, frames);
        let began = std::time::Instant::now();
        while began.elapsed() < each {
            if watch.cancelled() {
                return Err(Fault {
                    reason: FailureReason::Cancelled,
                    cancelled: true,
                    ailment: None,
                    detail: "cancelled".to_owned(),
                });
            }
            std::thread::sleep(each.min(Duration::from_millis(5)));
        }
    }
    watch.progress(Stage::Matte, frames, frames);
    Ok(frames)
}
