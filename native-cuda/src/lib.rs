//! CUDA kernels of Selvedge and their typed launchers. Knows nothing of graphs.
//!
//! `kernels/` holds one folder an op; [`compile`] turns them into the PTX in `ptx/`, which this crate
//! carries, so that a user needs nothing but NVIDIA's driver. [`ops`] has one struct an op, the parameters
//! of its kernels; it chooses kernel and grid and makes a [`Launch`]. A [`Device`] runs launches in
//! order. Launches are constants: what changes from step to step lies in the step table on the device, so
//! that a list of them can be captured once and replayed as a CUDA graph.
//!
//! `emulator/` builds a `libcuda.so.1` whose device is the CPU, for tests on machines without a GPU.

pub mod compile;
pub mod constants;
mod device;
mod error;
mod images;
mod launch;
pub mod ops;
mod pinned;

pub use device::{Buffer, Device};
pub use error::{CudaError, Result};
pub use images::{Image, images};
pub use launch::Launch;
pub use pinned::{Readback, Upload};
