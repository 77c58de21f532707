//! What is done when a model fails in the middle of a job: the device is looked at, and where it works the job is tried
//! once more with one frame at a time.
//!
//! Owns: telling a device that is lost from one that was asked for too much. Nobody reads what the runtime said: the
//! device is given the known picture of its start again, with nothing else loaded. Does not own: what a worker does
//! about a lost device. Invariants: at most one second try a job; a job that was cancelled gets none.

use crate::device::Compute;
use crate::engine::{Engine, EngineConfig, Watch};
use crate::error::EngineError;

impl Engine {
    /// The outcome of `work`; where that failed by its model, whatever the second try comes to.
    pub(crate) fn with_second_try<T>(
        &self,
        watch: &dyn Watch,
        work: impl Fn(&Self) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        match work(self) {
            Err(error) if self.concerns_device(&error) && !watch.cancelled() => self.second_try(error, watch, work),
            outcome => outcome,
        }
    }

    /// Whether the device may be the cause, and less at once a remedy.
    fn concerns_device(&self, error: &EngineError) -> bool {
        let Compute { device, .. } = self.config().compute;
        let has_less = device.is_gpu() || self.config().compute.batch() > 1;
        has_less && matches!(error, EngineError::Model { .. } | EngineError::Device { .. })
    }

    fn second_try<T>(
        &self,
        error: EngineError,
        watch: &dyn Watch,
        work: impl FnOnce(&Self) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let device = self.config().compute.device;
        tracing::warn!(%error, %device, "a model failed; the device is looked at");
        // What it holds is let go first: a device that is full and works must pass.
        self.unload();
        watch.alive();
        if let Err(lost) = self.prove_device() {
            return Err(EngineError::DeviceLost { device, source: Box::new(lost) });
        }
        tracing::warn!(%device, "the device works; once more with one frame at a time");
        watch.alive();
        let compute = Compute { batch: 1, ..self.config().compute };
        work(&self.beside(EngineConfig { compute, ..self.config().clone() }))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rotoless_contract::worker::Stage;

    use super::*;
    use crate::device::{Device, DeviceError, Hardware};
    use crate::techniques::Techniques;
    use crate::test_runtime::models_dir;
    use crate::tools::Tools;

    struct Eye {
        cancelled: bool,
    }

    impl Watch for Eye {
        fn progress(&self, _stage: Stage, _frames_done: u64, _frames_total: u64) {}

        fn cancelled(&self) -> bool {
            self.cancelled
        }
    }

    const EYE: Eye = Eye { cancelled: false };

    fn engine(batch: usize) -> Engine {
        #[expect(clippy::disallowed_methods, reason = "a test's tools are in its path")]
        let path = std::env::var("PATH").unwrap();
        let config = EngineConfig {
            models_dir: models_dir(),
            tools: Tools::find(Some(path.as_ref())).unwrap(),
            threads: 1,
            compute: Compute { batch, ..Compute::default() },
            techniques: Techniques::ALL,
        };
        Engine::open(config).unwrap()
    }

    fn failed() -> EngineError {
        EngineError::Model { model: "m".to_owned(), detail: "whatever it says".to_owned() }
    }

    fn lost(hardware: &Hardware) -> Result<(), EngineError> {
        let source = DeviceError::Unusable { detail: "gone".to_owned() };
        Err(EngineError::Device { device: hardware.compute.device, source })
    }

    /// TW-7
    #[test]
    fn a_model_that_fails_on_a_device_that_works_is_tried_once_more_with_one_frame_at_a_time() {
        let engine = engine(4);
        let batches = Cell::new(Vec::new());
        let note = |engine: &Engine| {
            let mut seen = batches.take();
            seen.push(engine.config().compute.batch());
            batches.set(seen);
        };
        let outcome = engine.with_second_try(&EYE, |engine| {
            note(engine);
            if engine.config().compute.batch() > 1 { Err(failed()) } else { Ok("done") }
        });
        assert_eq!((outcome.unwrap(), batches.take()), ("done", vec![4, 1]));
        let outcome = engine.with_second_try(&EYE, |engine| -> Result<(), _> {
            note(engine);
            Err(failed())
        });
        assert!(matches!(outcome, Err(EngineError::Model { .. })), "{outcome:?}");
        assert_eq!(batches.take(), [4, 1], "once");
    }

    /// TW-7
    #[test]
    fn a_device_that_fails_its_proof_in_the_middle_of_a_job_is_lost_and_gets_no_second_try() {
        let mut engine = engine(4);
        engine.proof = lost;
        let tries = AtomicU32::new(0);
        let outcome = engine.with_second_try(&EYE, |_| -> Result<(), _> {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(failed())
        });
        match outcome {
            Err(EngineError::DeviceLost { device: Device::Cpu, source }) => {
                assert!(matches!(*source, EngineError::Device { .. }));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(tries.into_inner(), 1);
    }

    #[test]
    fn what_less_at_once_would_not_change_is_not_tried_again() {
        let tries = AtomicU32::new(0);
        let try_with = |batch: usize, eye: &Eye, error: fn() -> EngineError| {
            let mut engine = engine(batch);
            engine.proof = lost;
            let outcome = engine.with_second_try(eye, |_| -> Result<(), _> {
                tries.fetch_add(1, Ordering::Relaxed);
                Err(error())
            });
            assert!(!matches!(outcome, Err(EngineError::DeviceLost { .. })), "{outcome:?}");
            assert_eq!(tries.swap(0, Ordering::Relaxed), 1);
        };
        try_with(1, &EYE, failed);
        try_with(4, &EYE, || EngineError::NotAVideo);
        try_with(4, &Eye { cancelled: true }, failed);
    }
}
