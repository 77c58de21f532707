//! NVIDIA's GPUs: the options of the two providers and the libraries that they need.
//!
//! Invariants: where a choice of algorithm could hang on a measurement it is made by rule, so that the same frames give
//! the same bits on the same GPU; a provider that does not register is an error, whatever the crate would make of it.

use std::path::Path;

use ort::session::builder::SessionBuilder;

use crate::device::{Device, DeviceError, Hardware};

/// Libraries of CUDA, cuDNN and TensorRT, each after those that it needs, that are loaded from the directory `cuda` of
/// the models directory where it has them; the others are left to the system's loader.
const LIBRARIES: [&str; 18] = [
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libnvrtc.so.13",
    "libcurand.so.10",
    "libnvJitLink.so.13",
    "libcufft.so.12",
    "libcudnn.so.9",
    "libcudnn_graph.so.9",
    "libcudnn_ops.so.9",
    "libcudnn_heuristic.so.9",
    "libcudnn_adv.so.9",
    "libcudnn_cnn.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
    "libnvinfer.so.10",
    "libnvinfer_plugin.so.10",
    "libnvonnxparser.so.10",
];

/// Directories below `cuda` in which a package may have its libraries.
const DEPTH: usize = 4;

pub(super) fn preload(directory: &Path) {
    for name in LIBRARIES {
        let Some(path) = find(directory, name, DEPTH) else { continue };
        if let Err(error) = ort::util::preload_dylib(&path) {
            // The provider's own error will say what it lacks.
            tracing::warn!(library = name, %error, "a library for the GPU does not load");
        }
    }
}

fn find(directory: &Path, name: &str, depth: usize) -> Option<std::path::PathBuf> {
    let direct = directory.join(name);
    if direct.is_file() {
        return Some(direct);
    }
    let below = depth.checked_sub(1)?;
    let mut inside: Vec<_> = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    inside.sort_unstable();
    inside.iter().filter(|path| path.is_dir()).find_map(|path| find(path, name, below))
}

/// Whether the library that is loaded was built with what the device takes.
pub(super) fn check_library(device: Device) -> Result<(), DeviceError> {
    let is_there: Result<bool, ort::Error> = match device {
        Device::Cpu => Ok(true),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => <ort::ep::CUDA as ort::ep::ExecutionProvider>::is_available(),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Ok(false),
        #[cfg(feature = "tensorrt")]
        Device::TensorRt(_) => <ort::ep::TensorRT as ort::ep::ExecutionProvider>::is_available(),
        #[cfg(not(feature = "tensorrt"))]
        Device::TensorRt(_) => Ok(false),
    };
    match is_there {
        Ok(true) => Ok(()),
        Ok(false) => Err(DeviceError::NotInLibrary),
        Err(error) => Err(DeviceError::Unusable { detail: error.to_string() }),
    }
}

/// What a session must know to run on a device.
pub(super) struct Placing<'a> {
    pub hardware: &'a Hardware,
    /// Names what TensorRT keeps of the network.
    #[cfg_attr(not(feature = "tensorrt"), expect(dead_code, reason = "only TensorRT builds beforehand"))]
    pub network: &'a str,
    /// The input whose first axis takes 1 to this many pictures, with its other sides; none where shapes are fixed or
    /// known only when the first picture comes.
    #[cfg_attr(not(feature = "tensorrt"), expect(dead_code, reason = "only TensorRT builds beforehand"))]
    pub batches: Option<(&'a str, [usize; 3], usize)>,
}

/// A builder whose session will run on the device.
pub(super) fn onto(builder: SessionBuilder, placing: &Placing<'_>) -> Result<SessionBuilder, DeviceError> {
    let device = placing.hardware.compute.device;
    if let Some(feature) = device.missing_feature() {
        return Err(DeviceError::NotBuilt { feature });
    }
    match device {
        Device::Cpu => Ok(builder),
        #[cfg(feature = "cuda")]
        Device::Cuda(number) => register(builder, &[cuda(number, placing.hardware)]),
        #[cfg(feature = "tensorrt")]
        Device::TensorRt(number) => register(builder, &[tensorrt(number, placing)?, cuda(number, placing.hardware)]),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(DeviceError::NotInLibrary),
        #[cfg(not(feature = "tensorrt"))]
        Device::TensorRt(_) => Err(DeviceError::NotInLibrary),
    }
}

#[cfg(feature = "cuda")]
fn register(
    builder: SessionBuilder,
    providers: &[ort::ep::ExecutionProviderDispatch],
) -> Result<SessionBuilder, DeviceError> {
    builder
        .with_execution_providers(providers)
        .map_err(|error| DeviceError::Unusable { detail: error.to_string().trim().to_owned() })
}

#[cfg(feature = "cuda")]
fn cuda(number: u16, hardware: &Hardware) -> ort::ep::ExecutionProviderDispatch {
    ort::ep::CUDA::default()
        .with_device_id(i32::from(number))
        // The default measures all algorithms, anew in each process, and takes what was quickest just then.
        .with_conv_algorithm_search(ort::ep::cuda::ConvAlgorithmSearch::Heuristic)
        .with_tf32(hardware.compute.reduced_precision)
        // By powers of two it would take most of the GPU's memory from whoever else works there.
        .with_arena_extend_strategy(ort::ep::ArenaExtendStrategy::SameAsRequested)
        .build()
        .error_on_failure()
}

#[cfg(feature = "tensorrt")]
fn tensorrt(number: u16, placing: &Placing<'_>) -> Result<ort::ep::ExecutionProviderDispatch, DeviceError> {
    let cache = &placing.hardware.cache;
    let failed = |detail: String| DeviceError::Unusable { detail };
    std::fs::create_dir_all(cache).map_err(|error| failed(format!("{}: {error}", cache.display())))?;
    let path = cache.to_str().ok_or_else(|| failed("the path of its cache is not UTF-8".to_owned()))?;
    let precision = if placing.hardware.compute.reduced_precision { "half" } else { "full" };
    let mut provider = ort::ep::TensorRT::default()
        .with_device_id(i32::from(number))
        .with_fp16(placing.hardware.compute.reduced_precision)
        .with_engine_cache(true)
        .with_engine_cache_path(path)
        .with_engine_cache_prefix(format!("{}-{precision}", placing.network))
        .with_timing_cache(true)
        .with_timing_cache_path(path);
    if let Some((input, [a, b, c], most)) = placing.batches {
        let shape = |count: usize| format!("{input}:{count}x{a}x{b}x{c}");
        provider = provider
            .with_profile_min_shapes(shape(1))
            .with_profile_opt_shapes(shape(most))
            .with_profile_max_shapes(shape(most));
    }
    Ok(provider.build().error_on_failure())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_where_packages_put_it_and_no_deeper() {
        let dir = tempfile::tempdir().unwrap();
        let (near, far) = (dir.path().join("nvidia/cu13/lib"), dir.path().join("a/b/c/d/e"));
        for inside in [&near, &far] {
            std::fs::create_dir_all(inside).unwrap();
        }
        std::fs::write(near.join("libcudart.so.13"), "").unwrap();
        std::fs::write(far.join("libnvrtc.so.13"), "").unwrap();
        assert_eq!(find(dir.path(), "libcudart.so.13", DEPTH), Some(near.join("libcudart.so.13")));
        assert_eq!(find(dir.path(), "libnvrtc.so.13", DEPTH), None);
        assert_eq!(find(&dir.path().join("none"), "libcudart.so.13", DEPTH), None);
    }
}
