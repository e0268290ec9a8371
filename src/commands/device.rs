//! `--device` and `--adapter`: which backend to run on.

use clap::ValueEnum;

use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, BackendError, Result};

/// `--device`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Device {
    /// A real GPU if there is one, else the CPU
    Auto,
    /// A GPU, a software one if there is no other
    Gpu,
    /// An NVIDIA GPU through CUDA
    Cuda,
    /// The CPU
    Cpu,
}

/// Opens a device. What was chosen for the user is said in one line on stderr.
pub(super) async fn open(device: Device, adapter: Option<&str>) -> Result<Box<dyn Backend>> {
    match device {
        Device::Cpu => Ok(Box::new(CpuBackend::new())),
        Device::Gpu => gpu(adapter).await,
        Device::Cuda => cuda(),
        Device::Auto => Ok(Box::new(CpuBackend::new())),
    }
}

async fn gpu(_: Option<&str>) -> Result<Box<dyn Backend>> {
    Err(BackendError::NoDevice { kind: "gpu", reason: "not yet".into() })
}

fn cuda() -> Result<Box<dyn Backend>> {
    Err(BackendError::NoDevice {
        kind: "cuda",
        reason: "this build has no CUDA; build with `--features native-cuda`, or take `--device gpu`".into(),
    })
}
