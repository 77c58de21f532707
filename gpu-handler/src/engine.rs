//! The real engine behind the seam of [`crate::matting`].

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rotoless_contract::media::InputInfo;
use rotoless_contract::worker::MediaLimits;
use rotoless_matting::segments::Segments;
use rotoless_matting::{Engine, EngineError, Finished, MatteUse, Probe, Task, Watch};

use crate::ailment::Ailment;
use crate::detail::shown;
use crate::matting::{Fault, MatteFile, Matting, Measured, Order};

/// The media engine, shared by the attempts of this process, one after the other.
pub(crate) struct RealEngine(pub(crate) Arc<Engine>);

struct MeasuredFile {
    engine: Arc<Engine>,
    input: PathBuf,
    probe: Probe,
}

impl Matting for RealEngine {
    fn probe(&self, input: &Path, limits: &MediaLimits) -> Result<Box<dyn Measured>, Fault> {
        let probe = self.0.probe(input, limits)?;
        Ok(Box::new(MeasuredFile { engine: Arc::clone(&self.0), input: input.to_owned(), probe }))
    }
}

impl Measured for MeasuredFile {
    fn info(&self) -> &InputInfo {
        &self.probe.info
    }

    fn duration_ms(&self) -> u64 {
        self.probe.duration_ms
    }

    fn remove_background(&self, order: &Order, watch: &dyn Watch) -> Result<Finished, Fault> {
        let task = Task {
            input: &self.input,
            output: &order.output,
            background: order.background.as_deref(),
            matte: match &order.matte {
                MatteFile::Forget => MatteUse::Forget,
                MatteFile::Keep(file) => MatteUse::Keep(file),
                MatteFile::Reuse { file, made_for } => MatteUse::Reuse { file, made_for: *made_for },
            },
            segments: order.segments.as_ref().map(|segments| Segments {
                seconds: segments.seconds,
                store: &*segments.store,
                shared: false,
            }),
            work_dir: &order.work_dir,
            probe: &self.probe,
            spec: &order.spec,
            limits: order.limits,
            paid_seconds: Some(order.paid_seconds),
        };
        Ok(self.engine.remove_background(&task, watch)?)
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        let ailment = if let EngineError::DeviceLost { .. } = &error {
            Some(Ailment::DeviceLost)
        } else if let EngineError::Io { source, .. } = &error {
            (source.kind() == ErrorKind::StorageFull).then_some(Ailment::DiskFull)
        } else {
            None
        };
        Self { reason: error.reason(), cancelled: error.is_cancelled(), ailment, detail: shown(&error) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rotoless_contract::worker::FailureReason;
    use rotoless_matting::Device;

    use super::*;

    /// TW-7
    #[test]
    fn a_lost_device_and_a_full_disk_are_the_workers_and_a_broken_video_is_not() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().write(b"x").unwrap_err();
        let full = EngineError::Io { what: "cannot write", source: full };
        let lost = EngineError::DeviceLost { device: Device::Cuda(0), source: Box::new(EngineError::NoVideoStream) };
        for (error, ailment, reason) in [
            (full, Some(Ailment::DiskFull), FailureReason::InternalError),
            (lost, Some(Ailment::DeviceLost), FailureReason::InternalError),
            (EngineError::NotAVideo, None, FailureReason::InvalidMedia),
        ] {
            let fault = Fault::from(error);
            assert_eq!((fault.ailment, fault.reason, fault.cancelled), (ailment, reason, false));
        }
    }
}
