//! The media engine: probe, decode, model, composite, encode, verify.
//!
//! A job is a local file and a [`rotoless_contract::JobSpec`]; the result is a verified file. The engine opens no
//! connection and never gives a URL to a tool. [`Engine`] is the way in; models and their weights are in [`registry`].
//!
//! ```text
//! probe ── ffmpeg ──► decode + picture ─► model ─► finish + encode ──► ffmpeg ── verify
//!          (rawvideo)    one thread         one      one thread       (rawvideo)
//! ```

mod backdrop;
pub mod bench;
pub mod bench_quality;
mod carried;
mod child;
mod codecs;
mod container;
mod decode;
mod device;
mod encode;
mod engine;
mod error;
pub mod fetch;
mod finish;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod join;
mod kept;
mod lanes;
mod media_arguments;
mod model;
mod model_picture;
mod motion;
pub mod onnx_writer;
mod pack;
mod pipeline;
mod plan;
mod probe;
mod quality;
mod refine;
pub mod registry;
mod scaling;
mod scene;
pub mod segments;
mod setback;
mod sound;
mod stills;
mod techniques;
#[cfg(test)]
mod test_runtime;
pub mod tfjs;
mod timeline;
pub mod tiny;
mod tools;
mod verify;

pub use self::child::Isolation;
pub use self::device::{Compute, Device, DeviceError, MAX_BATCH, NotADevice};
pub use self::engine::{Engine, EngineConfig, Finished, Task, Watch, supported};
pub use self::error::{EngineError, LimitExceeded, Unsupported};
pub use self::kept::MatteUse;
pub use self::probe::Probe;
pub use self::techniques::{Techniques, UnknownTechnique};
pub use self::tools::{MIN_FFMPEG_MAJOR, Tools, ToolsError};
