//! Host memory that the device copies from and to while the host goes on.

use cudarc::driver::{CudaEvent, PinnedHostSlice, result, sys};

use crate::device::{Buffer, Device};
use crate::error::{CudaError, Result, refused};

/// Pinned words, and the event after which the copy that was queued last is over.
struct Pinned {
    words: PinnedHostSlice<u32>,
    copied: CudaEvent,
}

impl Pinned {
    /// Zeros.
    fn new(device: &Device, words: usize, flags: u32) -> Result<Self> {
        let refuse = refused("allocate pinned memory");
        device.queue()?;
        // SAFETY: it is filled with zeros right away.
        let mut pinned =
            unsafe { device.context().alloc_pinned_with_flags::<u32>(words.max(1), flags) }.map_err(&refuse)?;
        pinned.as_mut_slice().map_err(&refuse)?.fill(0);
        Ok(Self { words: pinned, copied: device.context().new_event(None).map_err(refuse)? })
    }

    /// The words, once the copy queued last is over.
    fn wait(&mut self) -> Result<&mut [u32]> {
        let refuse = refused("finish a copy");
        self.copied.synchronize().map_err(&refuse)?;
        self.words.as_mut_slice().map_err(refuse)
    }

    /// Marks the end of a copy that was just queued.
    fn queued(&self, device: &Device) -> Result<()> {
        self.copied.record(device.stream()).map_err(refused("mark the end of a copy"))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A copy may still be under way. An error here shows again wherever the device is used next.
        let _ = self.copied.synchronize();
    }
}

/// Words on their way to the device. Two sets take turns, so that the host can write the next while the
/// last is still being copied.
pub struct Upload {
    turns: [Pinned; 2],
    turn: usize,
}

impl Upload {
    /// Room for `words` words.
    pub fn new(device: &Device, words: usize) -> Result<Self> {
        // The host only ever writes it.
        let make = || Pinned::new(device, words, sys::CU_MEMHOSTALLOC_WRITECOMBINED);
        Ok(Self { turns: [make()?, make()?], turn: 0 })
    }

    /// Queues a copy of `words` to the start of a buffer. Waits only if the last but one is still under way.
    pub fn send(&mut self, device: &Device, words: &[u32], to: &mut Buffer) -> Result<()> {
        self.turn = 1 - self.turn;
        let turn = &mut self.turns[self.turn];
        let host = turn.wait()?;
        let (bytes, room) = (size_of_val(words), size_of_val(host).min(to.len()));
        if bytes > room {
            return Err(CudaError::OutOfBounds { start: 0, end: bytes, length: room });
        }
        let host = &mut host[..words.len()];
        host.copy_from_slice(words);
        // SAFETY: the buffer is large enough and is freed in the stream's order; the pinned words are neither
        // written nor freed before `copied`.
        let done = unsafe { result::memcpy_htod_async(to.address(), host, device.queue()?) };
        done.map_err(refused("copy to the device"))?;
        turn.queued(device)
    }
}

/// Words on their way from the device.
pub struct Readback {
    pinned: Pinned,
    words: usize,
}

impl Readback {
    /// Room for `words` words.
    pub fn new(device: &Device, words: usize) -> Result<Self> {
        Ok(Self { pinned: Pinned::new(device, words, 0)?, words: 0 })
    }

    /// Words there is room for.
    pub fn capacity(&self) -> usize {
        self.pinned.words.len()
    }

    /// Queues a copy of the first `words` words of a buffer. An earlier one that nobody waited for is lost.
    pub fn start(&mut self, device: &Device, from: &Buffer, words: usize) -> Result<()> {
        let host = self.pinned.wait()?;
        let (bytes, room) = (words.saturating_mul(size_of::<u32>()), size_of_val(host).min(from.len()));
        if bytes > room {
            return Err(CudaError::OutOfBounds { start: 0, end: bytes, length: room });
        }
        // SAFETY: the buffer is large enough and is freed in the stream's order; the pinned words are neither
        // read nor freed before `copied`.
        let done = unsafe { result::memcpy_dtoh_async(&mut host[..words], from.address(), device.queue()?) };
        done.map_err(refused("copy from the device"))?;
        self.words = words;
        self.pinned.queued(device)
    }

    /// Waits for the copy and gives the words.
    pub fn wait(&mut self) -> Result<&[u32]> {
        let words = self.words;
        Ok(&self.pinned.wait()?[..words])
    }
}
