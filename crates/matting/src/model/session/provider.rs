//! The library and the execution provider.
//!
//! Owns: loading ONNX Runtime once a process, putting a session onto a device, the proof that the device works.
//! Invariant: a provider that was asked for is registered or there is an error (see `crate::device`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;

use super::gpu;
use super::{Answer, Feed, Network, Numbers, Run, Stored};
use crate::device::{Device, DeviceError, Hardware};
use crate::error::EngineError;
use crate::fetch::{GPU_RUNTIME, RUNTIME};
use crate::registry::{Registry, RuntimeEntry};
use crate::tiny;

/// The crate allows one environment a process, for good: a second could not be made after the first is gone.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

pub(super) fn environment() -> Option<Environment> {
    ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Loads ONNX Runtime, unless that was done before: then the path does not matter.
fn load_runtime(library: &Path) -> Result<(), EngineError> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if environment.is_some() {
        return Ok(());
    }
    if !library.is_file() {
        return Err(EngineError::MissingRuntime { path: library.display().to_string(), name: RUNTIME });
    }
    let failed = |detail: String| EngineError::Runtime { detail };
    let built = ort::init_from(library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("rotoless")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    // With a logger of one's own the runtime starts at its most talkative.
    built.set_log_level(LogLevel::Warning);
    *environment = Some(built);
    Ok(())
}

#[cfg(test)]
pub(in crate::model) fn runtime_for_tests(library: &Path) -> Environment {
    load_runtime(library).unwrap();
    environment().unwrap()
}

/// Its words become ours. None is an error here: those come back from the call that failed.
fn log(level: LogLevel, category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => {
            tracing::debug!(runtime.category = category, runtime.place = place, "{message}")
        }
        LogLevel::Warning | LogLevel::Error | LogLevel::Fatal => {
            tracing::warn!(runtime.category = category, runtime.place = place, "{message}");
        }
    }
}

/// Makes the runtime and the device ready, and shows that the device works, before anything is entrusted to it.
pub(in crate::model) fn open_device(
    registry: &Registry,
    models_dir: &Path,
    hardware: &Hardware,
) -> Result<(), EngineError> {
    let device = hardware.compute.device;
    let refused = |source| EngineError::Device { device, source };
    if let Some(feature) = device.missing_feature() {
        return Err(refused(DeviceError::NotBuilt { feature }));
    }
    let library = library(registry, models_dir, device)?;
    if !device.is_gpu() {
        return load_runtime(&library);
    }
    gpu::preload(&models_dir.join("cuda"));
    load_runtime(&library)?;
    gpu::check_library(device).map_err(refused)?;
    probe(hardware)
}

fn library(registry: &Registry, models_dir: &Path, device: Device) -> Result<PathBuf, EngineError> {
    let (cpu, gpu) = (registry.runtime(), registry.gpu_runtime());
    let installed = |entry: Option<&RuntimeEntry>| {
        entry.is_some_and(|entry| entry.files().all(|file| file.path(models_dir).is_file()))
    };
    let (wanted, name) = match device {
        // Where only the GPU's build was fetched, it does the processor's work as well.
        Device::Cpu if !installed(cpu) && installed(gpu) => (gpu, GPU_RUNTIME),
        Device::Cpu => (cpu, RUNTIME),
        Device::Cuda(_) | Device::TensorRt(_) => (gpu, GPU_RUNTIME),
    };
    let missing = |path| EngineError::MissingRuntime { path, name };
    let none = || missing(format!("(no entry for {}/{})", std::env::consts::OS, std::env::consts::ARCH));
    let entry = wanted.ok_or_else(none)?;
    match entry.files().map(|file| file.path(models_dir)).find(|path| !path.is_file()) {
        Some(path) => Err(missing(path.display().to_string())),
        None => Ok(entry.file.path(models_dir)),
    }
}

/// Runs a small network there and looks at what comes out.
pub(in crate::model) fn probe(hardware: &Hardware) -> Result<(), EngineError> {
    // Black with a band of white, whose matte is (1 − 0.5) · 1.
    let (name, side) = ("probe", 16);
    let mut picture = vec![0.0_f32; 3 * side * side];
    let band = side * side / 4;
    for plane in picture.chunks_exact_mut(side * side) {
        plane.iter_mut().skip(band).take(band).for_each(|value| *value = 1.0);
    }
    let refused = |source| EngineError::Device { device: hardware.compute.device, source };
    let unusable = |detail: String| refused(DeviceError::Unusable { detail });
    let network = Network::load(name, Stored::Bytes(&tiny::luma_threshold_model(0.5, 1.0), None), hardware);
    let mut network = network.map_err(|error| {
        // The network is right: whatever is wrong is the device, which a provider may look for only now.
        if let EngineError::Model { detail, .. } = error { unusable(detail) } else { error }
    })?;
    let shape = [1, 3, side, side];
    let feeds = [Feed { name: tiny::INPUT, shape: &shape, values: Numbers::Floats(&picture) }];
    let run = Run { feeds: &feeds, carried_in: Vec::new(), carried_out: &[], read: &[tiny::MATTE] };
    let expected = |index: usize| if (band..2 * band).contains(&index) { 0.5 } else { 0.0 };
    let is_right = |answers: &[Answer<'_>]| match answers {
        [Answer { values, .. }] => {
            values.len() == side * side
                && values.iter().enumerate().all(|(index, value)| (value - expected(index)).abs() < 0.01)
        }
        _ => false,
    };
    match network.run(run, is_right) {
        Ok((true, _)) => Ok(()),
        Ok((false, _)) => Err(refused(DeviceError::Wrong { detail: "a known picture's matte".to_owned() })),
        Err(error) => Err(refused(DeviceError::Unusable { detail: error.to_string() })),
    }
}

/// Where a session on that device keeps its tensors.
pub(super) fn memory(device: Device) -> Result<MemoryInfo<'static>, ort::Error> {
    match device {
        Device::Cpu => Ok(MemoryInfo::default()),
        Device::Cuda(number) | Device::TensorRt(number) => {
            MemoryInfo::new(AllocationDevice::CUDA, i32::from(number), AllocatorType::Device, MemoryType::Default)
        }
    }
}

/// Memory that the processor writes and the device reads.
pub(super) fn staging_memory(session: &Session, device: Device) -> Allocator {
    let pinned = |number: u16| {
        let place = AllocationDevice::CUDA_PINNED;
        let memory = MemoryInfo::new(place, i32::from(number), AllocatorType::Device, MemoryType::CPUInput)?;
        Allocator::new(session, memory)
    };
    match device {
        Device::Cpu => Allocator::default(),
        Device::Cuda(number) | Device::TensorRt(number) => pinned(number).unwrap_or_else(|error| {
            tracing::warn!(%error, "pictures go to the GPU by way of ordinary memory");
            Allocator::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Compute;
    use crate::test_runtime::models_dir;

    fn open(registry: &Registry, models_dir: &Path, device: Device) -> Result<(), EngineError> {
        open_device(registry, models_dir, &Hardware::new(Compute::on(device), 1, models_dir))
    }

    /// The proof that a GPU has to pass, passed by the processor: what it expects is right.
    #[test]
    fn the_processor_passes_the_proof() {
        open(&Registry::builtin().unwrap(), &models_dir(), Device::Cpu).unwrap();
        probe(&Hardware::new(Compute::default(), 1, &models_dir())).unwrap();
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_the_program_was_built_without_is_an_error_that_says_how_to_build_it() {
        for (device, name) in [(Device::Cuda(0), "cuda"), (Device::TensorRt(1), "tensorrt")] {
            match open(&Registry::builtin().unwrap(), &models_dir(), device) {
                Err(EngineError::Device { device: refused, source: DeviceError::NotBuilt { feature } }) => {
                    assert_eq!((refused, feature), (device, name));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    #[cfg(feature = "tensorrt")]
    fn a_library_without_the_provider_is_an_error_and_never_the_processor() {
        // The processor's library in the place of the GPU's.
        let dir = tempfile::tempdir().unwrap();
        let library = Registry::builtin().unwrap().runtime_path(&models_dir()).unwrap().canonicalize().unwrap();
        std::os::unix::fs::symlink(library, dir.path().join("libown.so")).unwrap();
        let entry = format!(
            "[[runtime]]\nos = \"linux\"\narch = \"{}\"\nbuild = \"gpu\"\nversion = \"1\"\nlicence = \"MIT\"\n\
             file = \"libown.so\"\nsha256 = \"{}\"\n",
            std::env::consts::ARCH,
            "0".repeat(64)
        );
        std::fs::write(dir.path().join(crate::registry::REGISTRY_FILE), entry).unwrap();
        let registry = Registry::load(dir.path()).unwrap();
        for device in [Device::Cuda(0), Device::TensorRt(0)] {
            match open(&registry, dir.path(), device) {
                Err(EngineError::Device { source: DeviceError::NotInLibrary, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    #[cfg(feature = "tensorrt")]
    fn a_gpus_runtime_that_is_not_there_is_named_with_the_command_that_fetches_it() {
        let dir = tempfile::tempdir().unwrap();
        match open(&Registry::builtin().unwrap(), dir.path(), Device::Cuda(0)) {
            Err(error @ EngineError::MissingRuntime { .. }) => assert!(error.to_string().contains("models fetch gpu")),
            other => panic!("{other:?}"),
        }
    }
}
