//! What can go wrong between here and the device.

use cudarc::driver::{DriverError, sys::CUresult};

/// A device that is not there, a call that the driver refused, or a kernel asked for too much.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// The driver's library could not be loaded.
    #[error("no CUDA driver: {library} was not found; install NVIDIA's driver, or run on another device")]
    NoDriver {
        /// What was looked for.
        library: &'static str,
    },
    /// The driver is there and finds no device of that number.
    #[error("no CUDA device {ordinal}: the driver sees {count}")]
    NoDevice {
        /// What was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The device is older than the oldest that the kernels are compiled for.
    #[error("{device} has compute capability {}.{}; the kernels need 8.0 (Ampere) or later", .capability.0, .capability.1)]
    TooOld {
        /// Its name.
        device: String,
        /// Major and minor.
        capability: (i32, i32),
    },
    /// There is not that much memory left.
    #[error("out of device memory while allocating {bytes} bytes")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// A kernel cannot work on such sizes.
    #[error("kernel `{kernel}`: {what} is {got}, at most {most} is possible")]
    Limit {
        /// The kernel.
        kernel: &'static str,
        /// Which size.
        what: &'static str,
        /// How large it is.
        got: u64,
        /// How large it may be.
        most: u64,
    },
    /// Bytes outside of a buffer.
    #[error("bytes {start}..{end} of a buffer of {length}")]
    OutOfBounds {
        /// First byte.
        start: usize,
        /// One past the last.
        end: usize,
        /// How many there are.
        length: usize,
    },
    /// The device gave up; nothing on it can be used any more.
    #[error("the CUDA device was lost while it was to {action}: {message}")]
    Lost {
        /// What was being done.
        action: &'static str,
        /// The driver's words.
        message: String,
    },
    /// The driver refused.
    #[error("the CUDA driver would not {action}: {message}")]
    Driver {
        /// What was being done.
        action: &'static str,
        /// The driver's words.
        message: String,
    },
}

/// Result of everything here.
pub type Result<T, E = CudaError> = std::result::Result<T, E>;

/// The driver's error, with what was being done: "the CUDA driver would not ...".
pub(crate) fn refused(action: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |error| {
        let message = format!("{:?}", error.0);
        if is_fatal(error.0) { CudaError::Lost { action, message } } else { CudaError::Driver { action, message } }
    }
}

/// Errors after which the context is unusable, as the driver's reference has them.
fn is_fatal(result: CUresult) -> bool {
    use CUresult::*;
    matches!(
        result,
        CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_DEVICE_UNAVAILABLE
    )
}
