//! A kernel, its grid and its parameters: everything that starting it takes.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use cudarc::driver::{CudaFunction, DriverError, result, sys};

use crate::device::Device;
use crate::error::{CudaError, Result};

/// A kernel ready to run. Made by the structs in [`ops`](crate::ops), run by [`Device::run`].
#[derive(Debug)]
pub struct Launch {
    function: CudaFunction,
    op: &'static str,
    entry: &'static str,
    grid: [u32; 2],
    threads: u32,
    /// The parameter struct as the kernel reads it, padding included.
    parameters: Box<[MaybeUninit<u64>]>,
}

impl Launch {
    /// Kernel `entry` of `op` with `grid` blocks of `threads` threads. `P` mirrors the kernel's parameter struct.
    pub(crate) fn new<P: Copy>(
        device: &Device,
        op: &'static str,
        entry: &'static str,
        grid: [u32; 2],
        threads: u32,
        parameters: P,
    ) -> Result<Self> {
        const { assert!(align_of::<P>() <= align_of::<u64>()) };
        let most = [u32::MAX / 2, MOST_ROWS_OF_BLOCKS];
        for (got, most) in grid.into_iter().zip(most) {
            if got > most {
                let (got, most) = (u64::from(got), u64::from(most));
                return Err(CudaError::Limit { kernel: entry, what: "a side of the grid", got, most });
            }
        }
        let function = device.kernel(op, entry)?;
        let mut words = vec![MaybeUninit::uninit(); size_of::<P>().div_ceil(size_of::<u64>())].into_boxed_slice();
        // SAFETY: the words are at least as many bytes as `P` and at least as aligned.
        unsafe { words.as_mut_ptr().cast::<P>().write(parameters) };
        Ok(Self { function, op, entry, grid: grid.map(|side| side.max(1)), threads, parameters: words })
    }

    /// The op it belongs to.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// The kernel's own name: the op's, its variant, the format it reads.
    pub fn entry(&self) -> &'static str {
        self.entry
    }

    /// See [`Device::run`].
    pub(crate) unsafe fn start(&self, stream: sys::CUstream) -> Result<(), DriverError> {
        let mut parameters = [self.parameters.as_ptr().cast_mut().cast::<c_void>()];
        let (grid, block) = ((self.grid[0], self.grid[1], 1), (self.threads, 1, 1));
        // SAFETY: the kernel takes one struct, which the driver copies and does not write. What its addresses
        // point to is the caller's promise.
        unsafe { result::launch_kernel(self.function.cu_function(), grid, block, 0, stream, &mut parameters) }
    }
}

/// Most blocks in the grid's second direction, where kernels stride.
pub(crate) const MOST_ROWS_OF_BLOCKS: u32 = 65535;
