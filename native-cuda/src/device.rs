//! A device: its memory, its kernels, and the one stream on which everything happens in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, result, sys};
use cudarc::nvrtc::Ptx;

use crate::error::{CudaError, Result, refused};
use crate::images::images;
use crate::launch::Launch;

/// The name of the driver's library, for messages.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// Memory on the device. Freed, in the stream's order, when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    slice: CudaSlice<u8>,
    address: u64,
}

impl Buffer {
    /// Where it begins, for the parameters of kernels.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self, bytes: &Range<usize>) -> Result<()> {
        if bytes.start <= bytes.end && bytes.end <= self.len() {
            Ok(())
        } else {
            Err(CudaError::OutOfBounds { start: bytes.start, end: bytes.end, length: self.len() })
        }
    }
}

/// A CUDA device. Not shared between threads.
pub struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    name: String,
    capability: (i32, i32),
    modules: RefCell<BTreeMap<&'static str, Arc<CudaModule>>>,
}

impl Device {
    /// How many devices the driver sees. An error where there is no driver.
    pub fn count() -> Result<usize> {
        // SAFETY: loads the driver's library and lets go of it; it does nothing before `cuInit`.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoDriver { library: LIBRARY });
        }
        match CudaContext::device_count() {
            Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
            Err(error) => Err(refused("count its devices")(error)),
        }
    }

    /// Opens a device.
    pub fn open(ordinal: usize) -> Result<Self> {
        let count = Self::count()?;
        if ordinal >= count {
            return Err(CudaError::NoDevice { ordinal, count });
        }
        let context = CudaContext::new(ordinal).map_err(refused("open the device"))?;
        // SAFETY: everything here happens on one stream, in order. No buffer needs events.
        unsafe { context.disable_event_tracking() };
        let name = context.name().map_err(refused("name the device"))?;
        let capability = context.compute_capability().map_err(refused("tell the device's capability"))?;
        if capability < (8, 0) {
            return Err(CudaError::TooOld { device: name, capability });
        }
        // Not the default stream: that one cannot be captured.
        let stream = context.new_stream().map_err(refused("make a stream"))?;
        Ok(Self { context, stream, name, capability, modules: RefCell::default() })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Compute capability, major and minor.
    pub fn capability(&self) -> (i32, i32) {
        self.capability
    }

    /// The CUDA version that the driver supports, as in `12.4`.
    pub fn driver_version(&self) -> String {
        let mut version = 0;
        // SAFETY: the pointer is to a live integer.
        let result = unsafe { sys::cuDriverGetVersion(&mut version) };
        match result {
            sys::CUresult::CUDA_SUCCESS => format!("{}.{}", version / 1000, version % 1000 / 10),
            _ => "unknown".into(),
        }
    }

    /// Bytes of memory: free and in all.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context.mem_get_info().map_err(refused("tell how much memory is free"))
    }

    /// Memory full of zeros.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer> {
        // The driver refuses to allocate nothing.
        let slice = self.stream.alloc_zeros::<u8>(bytes.max(1)).map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => CudaError::OutOfMemory { bytes },
            _ => refused("allocate memory")(error),
        })?;
        let (address, _) = slice.device_ptr(&self.stream);
        Ok(Buffer { slice, address })
    }

    /// Copies bytes to a buffer, from byte `start` on. What is queued later sees them.
    pub fn write(&self, buffer: &mut Buffer, start: usize, bytes: &[u8]) -> Result<()> {
        let range = start..start.saturating_add(bytes.len());
        buffer.check(&range)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut part = buffer.slice.slice_mut(range);
        self.stream.memcpy_htod(bytes, &mut part).map_err(refused("copy to the device"))
    }

    /// Waits for everything queued, then copies bytes out of a buffer, from byte `start` on.
    pub fn read(&self, buffer: &Buffer, start: usize, bytes: &mut [u8]) -> Result<()> {
        let range = start..start.saturating_add(bytes.len());
        buffer.check(&range)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.stream.memcpy_dtoh(&buffer.slice.slice(range), bytes).map_err(refused("copy from the device"))?;
        self.synchronize()
    }

    /// Copies bytes within a buffer.
    pub fn copy_within(&self, buffer: &mut Buffer, from: Range<usize>, to: usize) -> Result<()> {
        buffer.check(&from)?;
        buffer.check(&(to..to.saturating_add(from.len())))?;
        let (from, to, bytes) = (buffer.address + from.start as u64, buffer.address + to as u64, from.len());
        // SAFETY: both ranges lie in the buffer, which lives until this has run: buffers are freed in the
        // stream's order. `&mut` keeps others from using it.
        let done = unsafe { result::memcpy_dtod_async(to, from, bytes, self.queue()?) };
        done.map_err(refused("copy on the device"))
    }

    /// Copies bytes from a buffer to another one.
    pub fn copy(&self, buffer: &Buffer, from: Range<usize>, other: &mut Buffer, to: usize) -> Result<()> {
        buffer.check(&from)?;
        other.check(&(to..to.saturating_add(from.len())))?;
        if from.is_empty() {
            return Ok(());
        }
        let mut target = other.slice.slice_mut(to..to + from.len());
        self.stream.memcpy_dtod(&buffer.slice.slice(from), &mut target).map_err(refused("copy on the device"))
    }

    /// Waits for everything queued.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(refused("finish its work"))
    }

    /// Queues a kernel.
    ///
    /// # Safety
    /// Every address in the launch's parameters must be of a live [`Buffer`] of this device, as large as
    /// the shapes beside it say; the step table must fit the capacity that the launch was made for.
    pub unsafe fn run(&self, launch: &Launch) -> Result<()> {
        // SAFETY: the caller's promise. The driver copies the parameters before it returns.
        unsafe { launch.start(self.queue()?) }.map_err(refused("start a kernel"))
    }

    /// A kernel by its op and its own name, compiled for this device. Kept once loaded.
    pub(crate) fn kernel(&self, op: &'static str, entry: &'static str) -> Result<CudaFunction> {
        let mut modules = self.modules.borrow_mut();
        let module = match modules.get(op) {
            Some(module) => module,
            None => {
                let image = images().iter().find(|image| image.op == op);
                let ptx = image.map_or("", |image| image.ptx[usize::from(self.capability >= (9, 0))]);
                let module = self.context.load_module(Ptx::from_src(ptx)).map_err(refused("compile a kernel's PTX"))?;
                modules.entry(op).or_insert(module)
            }
        };
        module.load_function(entry).map_err(refused("find a kernel in its PTX"))
    }

    pub(crate) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The stream, for calls that the driver's wrapper does not have.
    pub(crate) fn queue(&self) -> Result<sys::CUstream> {
        self.context.bind_to_thread().map_err(refused("take up the device's context"))?;
        Ok(self.stream.cu_stream())
    }

    /// The stream, for events.
    pub(crate) fn stream(&self) -> &CudaStream {
        &self.stream
    }
}
