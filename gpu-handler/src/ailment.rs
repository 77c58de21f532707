//! What is wrong with a worker, and not with what it was given to do.

/// Why this worker must not take another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ailment {
    /// The GPU does not calculate any more, or not right. The attempt was given back and counts for nothing.
    #[error("the device that runs the models is lost")]
    DeviceLost,
    /// There is no room for temporary files. The attempt failed: it counts, because its file may need all of any disk.
    #[error("the disk of the worker is full")]
    DiskFull,
    /// The engine ignores its stop flag: only the end of the process stops it.
    #[error("the engine hangs")]
    EngineHung,
    /// Queue or control plane could not be used for several sessions in a row.
    #[error("the worker reaches neither queue nor control plane")]
    CutOff,
}

impl Ailment {
    /// For logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::DeviceLost => "device_lost",
            Self::DiskFull => "disk_full",
            Self::EngineHung => "engine_hung",
            Self::CutOff => "cut_off",
        }
    }
}
