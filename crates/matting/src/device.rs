//! What models run on: the processor, or a GPU by way of CUDA or TensorRT.
//!
//! Owns: the words for it (`cpu`, `cuda`, `cuda:1`, `tensorrt`), what an operator may choose beside it, and why a device
//! cannot be used. Does not own: how a session comes to run there (`model/session`).
//! Invariant: a device that was asked for is used or its absence is an error: nothing here falls back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What models run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, by CUDA and cuDNN.
    Cuda(u16),
    /// The same, by TensorRT; what it cannot do runs by CUDA.
    TensorRt(u16),
}

/// Not the name of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device is cpu, cuda, cuda:N, tensorrt or tensorrt:N")]
pub struct NotADevice;

impl Device {
    /// The execution provider, as a job reports it.
    #[must_use]
    pub const fn provider(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::TensorRt(_) => "tensorrt",
        }
    }

    /// Whether it needs the GPU's build of ONNX Runtime.
    #[must_use]
    pub const fn is_gpu(self) -> bool {
        match self {
            Self::Cpu => false,
            Self::Cuda(_) | Self::TensorRt(_) => true,
        }
    }

    /// The cargo feature without which this program cannot use it.
    #[must_use]
    pub const fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Cuda(_) if !cfg!(feature = "cuda") => Some("cuda"),
            Self::TensorRt(_) if !cfg!(feature = "tensorrt") => Some("tensorrt"),
            Self::Cpu | Self::Cuda(_) | Self::TensorRt(_) => None,
        }
    }

    /// Frames that a still model takes at once where nobody says. A processor is busy with one.
    const fn batch(self) -> usize {
        match self {
            Self::Cpu => 1,
            Self::Cuda(_) | Self::TensorRt(_) => 8,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::TensorRt(number) => write!(f, "tensorrt:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let (provider, number) = match text.split_once(':') {
            Some((provider, number)) => (provider, Some(number.parse().map_err(|_| NotADevice)?)),
            None => (text, None),
        };
        match (provider, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", number) => Ok(Self::Cuda(number.unwrap_or(0))),
            ("tensorrt", number) => Ok(Self::TensorRt(number.unwrap_or(0))),
            _ => Err(NotADevice),
        }
    }
}

/// How models are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compute {
    /// On what.
    pub device: Device,
    /// Frames that a still model takes at once, at most [`MAX_BATCH`]; 0: what suits the device.
    pub batch: usize,
    /// Whether a GPU may calculate with fewer bits: TensorFloat-32 by CUDA, 16-bit floats by TensorRT. Faster, and
    /// mattes differ in the third decimal.
    pub reduced_precision: bool,
}

/// More frames at once than this gain nothing and hold the first of them back.
pub const MAX_BATCH: usize = 32;

impl Compute {
    /// All of it as it is without options, on this device.
    #[must_use]
    pub const fn on(device: Device) -> Self {
        Self { device, batch: 0, reduced_precision: false }
    }

    pub(crate) fn batch(&self) -> usize {
        if self.batch == 0 { self.device.batch() } else { self.batch.min(MAX_BATCH) }
    }
}

/// What a model is loaded onto.
#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    pub compute: Compute,
    /// Of the processor, for what runs there.
    pub threads: usize,
    /// Where TensorRT keeps what it built.
    #[cfg_attr(not(feature = "tensorrt"), expect(dead_code, reason = "nobody else keeps anything"))]
    pub cache: PathBuf,
}

impl Hardware {
    pub(crate) fn new(compute: Compute, threads: usize, models_dir: &Path) -> Self {
        Self { compute, threads, cache: models_dir.join("tensorrt") }
    }

    /// The same for a model that is given one picture at a time.
    pub(crate) fn one_at_a_time(&self) -> Self {
        Self { compute: Compute { batch: 1, ..self.compute }, ..self.clone() }
    }
}

/// Why models cannot run on the device that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program cannot do it.
    #[error("this program was built without it: build with `--features {feature}`")]
    NotBuilt {
        /// The cargo feature.
        feature: &'static str,
    },
    /// The library cannot do it.
    #[error(
        "the ONNX Runtime that is loaded has no provider for it: run `rotoless models fetch gpu`, and use one device a process"
    )]
    NotInLibrary,
    /// The provider does not load: no driver, no GPU, or a library of CUDA, cuDNN or TensorRT is missing.
    #[error("its provider does not load: {detail}")]
    Unusable {
        /// What the runtime said.
        detail: String,
    },
    /// The provider loaded, and left work to the processor that would slow everything down.
    #[error("`{model}` would run on the processor in part: {}", operators.join(", "))]
    LeftToProcessor {
        /// Name of the model.
        model: String,
        /// Kinds of operators.
        operators: Vec<String>,
    },
    /// The device calculates, and wrongly.
    #[error("it calculates wrongly: {detail}")]
    Wrong {
        /// What came out.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("tensorrt:1", Device::TensorRt(1)),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert_eq!("tensorrt".parse(), Ok(Device::TensorRt(0)));
        for wrong in ["", "gpu", "CUDA", "cpu:0", "cuda:", "cuda:-1", "cuda:0:1", "cuda:99999", "tensorrt:x"] {
            assert_eq!(wrong.parse::<Device>(), Err(NotADevice), "{wrong}");
        }
    }

    #[test]
    fn a_batch_is_the_devices_unless_one_is_asked_for_and_is_bounded() {
        assert_eq!(Compute::on(Device::Cpu).batch(), 1);
        assert_eq!(Compute::on(Device::Cuda(0)).batch(), 8);
        assert_eq!(Compute { batch: 3, ..Compute::on(Device::Cuda(0)) }.batch(), 3);
        assert_eq!(Compute { batch: usize::MAX, ..Compute::default() }.batch(), MAX_BATCH);
    }
}
