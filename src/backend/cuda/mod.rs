//! NVIDIA cards through the CUDA driver: graphs become lists of `selvedge_cuda` launches.
//!
//! Everything happens in order on one stream, so that the host only ever waits where it needs bytes. The
//! launches of a program are constants; a step writes the step table and runs them.

mod lower;
mod memory;
mod program;
mod tokens;
mod weights;

use std::ops::Range;
use std::rc::Rc;

use futures::future::{LocalBoxFuture, ready};
use selvedge_cuda::{CudaError, Device};

use self::lower::Rotaries;
use self::memory::Memory;
use self::program::Program;
use self::tokens::Tokens;
use self::weights::Weights;
use super::checks::{no_program, not_allocated};
use super::{
    Backend, BackendError, BackendInfo, BackendKind, BlockId, Counters, Parts, ProgramId, ProgramSpec, Result,
    StepTable, Ticket, state_io,
};
use crate::graph::{Graph, RowBlock, ValueId, WeightDesc, WeightId, WeightSink};
use crate::state::{Sampler, SlotId, SlotState, StateLayout};

/// The name under which the emulator of `native-cuda/emulator` shows itself.
const EMULATOR: &str = "CPU emulator";

impl From<CudaError> for BackendError {
    fn from(error: CudaError) -> Self {
        let message = error.to_string();
        match error {
            CudaError::NoDriver { .. } | CudaError::NoDevice { .. } | CudaError::TooOld { .. } => {
                Self::NoDevice { kind: "cuda", reason: message }
            }
            CudaError::OutOfMemory { bytes } => Self::OutOfMemory { what: "a buffer".into(), bytes: bytes as u64 },
            CudaError::Limit { kernel, what, got, most } => Self::Limit {
                what: format!("CUDA kernel `{kernel}`, {what},"),
                needed: got.to_string(),
                available: most.to_string(),
            },
            CudaError::Lost { .. } => Self::DeviceLost(message),
            CudaError::OutOfBounds { .. } => Self::Misuse(message),
            CudaError::Driver { .. } => Self::Driver { backend: "cuda", message },
        }
    }
}

/// An error of allocating, with what it was for.
fn naming(what: &str) -> impl Fn(CudaError) -> BackendError + '_ {
    move |error| match error {
        CudaError::OutOfMemory { bytes } => {
            BackendError::OutOfMemory { what: format!("`{what}`"), bytes: bytes as u64 }
        }
        error => error.into(),
    }
}

/// The CUDA devices of this machine; none where there is no driver.
pub fn devices() -> Vec<BackendInfo> {
    let count = Device::count().unwrap_or(0);
    (0..count).filter_map(|ordinal| Device::open(ordinal).ok()).map(|device| describe(&device)).collect()
}

fn describe(device: &Device) -> BackendInfo {
    let (major, minor) = device.capability();
    BackendInfo {
        kind: BackendKind::Cuda,
        adapter: device.name().to_owned(),
        driver: format!("CUDA {}, compute capability {major}.{minor}", device.driver_version()),
        software: device.name() == EMULATOR,
        f16: false,
        subgroups: true,
        least_subgroup: 32,
        most_subgroup: 32,
        forms: None,
        forms_from: None,
        notice: None,
        max_binding: u64::MAX,
        memory: device.memory().ok().map(|(free, _)| free as u64),
    }
}

/// A CUDA device, and everything on it.
pub struct CudaBackend {
    // Programs, weights and memory hold buffers; the device outlives them.
    /// By id; `None` once the weights or the memory they were compiled for are gone.
    programs: Vec<Option<Program>>,
    weights: Weights,
    memory: Option<Memory>,
    rotaries: Rotaries,
    tokens: Tokens,
    info: BackendInfo,
    counters: Counters,
    device: Rc<Device>,
}

impl CudaBackend {
    /// Opens a device by its number.
    pub fn new(ordinal: usize) -> Result<Self> {
        let device = Device::open(ordinal)?;
        Ok(Self {
            programs: vec![],
            weights: Weights::default(),
            memory: None,
            rotaries: Rotaries::default(),
            tokens: Tokens::default(),
            info: describe(&device),
            counters: Counters::default(),
            device: Rc::new(device),
        })
    }

    /// Ends the life of all programs: what they were compiled for has changed.
    fn drop_programs(&mut self) {
        self.programs.fill_with(|| None);
    }

    fn program(&self, id: ProgramId) -> Result<&Program> {
        self.programs.get(id.0 as usize).and_then(Option::as_ref).ok_or_else(|| no_program(id))
    }

    fn memory(&self) -> Result<&Memory> {
        self.memory.as_ref().ok_or_else(not_allocated)
    }

    fn memory_mut(&mut self) -> Result<&mut Memory> {
        self.memory.as_mut().ok_or_else(not_allocated)
    }
}

impl WeightSink for CudaBackend {
    type Error = BackendError;

    fn create_weight(&mut self, id: WeightId, desc: &WeightDesc) -> Result<()> {
        self.drop_programs();
        self.counters.objects += 1;
        self.weights.create(&self.device, id, desc)
    }

    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(ready(self.weights.write(&self.device, id, block)))
    }
}

impl Backend for CudaBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn allocate(&mut self, layout: &StateLayout) -> Result<()> {
        self.drop_programs();
        self.rotaries = Rotaries::default();
        self.memory = None;
        let memory = Memory::new(Rc::clone(&self.device), layout)?;
        self.counters.objects += memory.objects();
        self.memory = Some(memory);
        Ok(())
    }

    fn compile(&mut self, graph: &Graph, spec: &ProgramSpec) -> Result<ProgramId> {
        let memory = self.memory.as_ref().ok_or_else(not_allocated)?;
        let program = lower::lower(&self.device, graph, spec, &self.weights, memory, &mut self.rotaries)?;
        self.counters.objects += program.objects();
        self.programs.push(Some(program));
        Ok(ProgramId(self.programs.len() as u32 - 1))
    }

    fn set_pages(&mut self, slot: SlotId, pages: &[u32]) -> Result<()> {
        self.memory_mut()?.set_pages(slot, pages)
    }

    fn reset(&mut self, slot: SlotId) -> Result<()> {
        self.memory_mut()?.reset(slot)
    }

    fn set_sampler(&mut self, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()> {
        self.memory_mut()?.set_sampler(slot, sampler, seen)
    }

    fn set_mask(&mut self, slot: SlotId, mask: Option<&[u32]>) -> Result<()> {
        self.memory_mut()?.set_mask(slot, mask)
    }

    fn step(&mut self, id: ProgramId, table: &StepTable) -> Result<Ticket> {
        let program = self.programs.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or_else(|| no_program(id))?;
        let memory = self.memory.as_mut().ok_or_else(not_allocated)?;
        program.check(table, memory)?;
        let bytes = program.run(&self.device, table)?;

        self.counters.steps += 1;
        self.counters.submits += 1;
        self.counters.dispatches += program.launches().len() as u64;
        self.counters.bytes_written += bytes;
        let ticket = Ticket(self.counters.steps);
        if let Some(results) = program.results() {
            memory.sampled(table);
            if !table.outputs.is_empty() {
                self.counters.objects += self.tokens.start(&self.device, ticket, results, table.outputs.len())?;
            }
        }
        Ok(ticket)
    }

    fn sampled(&mut self, ticket: Ticket) -> LocalBoxFuture<'_, Result<Vec<u32>>> {
        let tokens = self.tokens.take(ticket);
        if let Ok(tokens) = &tokens {
            self.counters.bytes_read += size_of_val(tokens.as_slice()) as u64;
        }
        Box::pin(ready(tokens))
    }

    fn read(&mut self, id: ProgramId, value: ValueId, rows: usize) -> LocalBoxFuture<'_, Result<Vec<f32>>> {
        let numbers = self.program(id).and_then(|program| program.read(&self.device, value, rows));
        if let Ok(numbers) = &numbers {
            self.counters.bytes_read += size_of_val(numbers.as_slice()) as u64;
        }
        Box::pin(ready(numbers))
    }

    fn write(&mut self, id: ProgramId, value: ValueId, data: &[f32]) -> Result<()> {
        let program = self.programs.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or_else(|| no_program(id))?;
        program.write(&self.device, value, data)
    }

    fn snapshot(&mut self, slot: SlotId, position: usize) -> LocalBoxFuture<'_, Result<SlotState>> {
        Box::pin(async move { state_io::snapshot(self.memory()?, slot, position).await })
    }

    fn restore_parts(&mut self, slot: SlotId, state: &SlotState, parts: Parts) -> Result<()> {
        self.memory_mut()?.restore(slot, state, parts)
    }

    fn save_block(&mut self, slot: SlotId) -> Result<BlockId> {
        let memory = self.memory.as_mut().ok_or_else(not_allocated)?;
        self.counters.bytes_copied += memory.layout.block_bytes();
        memory.save_block(slot)
    }

    fn load_block(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        let memory = self.memory.as_mut().ok_or_else(not_allocated)?;
        self.counters.bytes_copied += memory.layout.block_bytes();
        memory.load_block(slot, block)
    }

    fn free_block(&mut self, block: BlockId) {
        if let Some(memory) = &mut self.memory {
            memory.free_block(block);
        }
    }

    fn snapshot_block<'a>(
        &'a mut self,
        block: BlockId,
        pages: &'a [u32],
        positions: Range<usize>,
    ) -> LocalBoxFuture<'a, Result<SlotState>> {
        Box::pin(async move {
            let memory = self.memory()?;
            state_io::snapshot_block(memory, &memory.read_block(block)?, pages, positions).await
        })
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        let copied = self.memory_mut()?.copy_page(from, to)?;
        self.counters.bytes_copied += copied as u64;
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn takes_quantised(&self) -> bool {
        false
    }

    fn device_bytes(&self) -> Option<u64> {
        let programs: usize = self.programs.iter().flatten().map(Program::bytes).sum();
        let memory = self.memory.as_ref().map_or(0, Memory::bytes);
        Some((self.weights.bytes() + memory + programs + self.rotaries.bytes()) as u64)
    }

    fn dispatches(&self, id: ProgramId) -> Vec<String> {
        let name = |launch: &selvedge_cuda::Launch| format!("{} ({})", launch.op(), launch.entry());
        self.program(id).map_or_else(|_| vec![], |program| program.launches().iter().map(name).collect())
    }
}
