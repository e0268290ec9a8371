//! WebGPU through wgpu: browsers, Vulkan, Metal, D3D12. Asks for nothing beyond WebGPU's defaults, and
//! uses subgroups where they are there.

mod forms;
mod fuse;
mod gpu;
mod kept;
mod kernels;
mod key;
mod limits;
mod lower;
mod measure;
mod memory;
mod packing;
mod profile;
mod program;
mod quantise;
mod scratch;
mod self_test;
pub mod shaders;
mod weights;

use std::ops::Range;
use std::rc::Rc;

use futures::future::LocalBoxFuture;

use self::gpu::Gpu;
use self::lower::{Workspace, lower};
use self::memory::{Io, Memory};
use self::profile::Profiler;
use self::program::{Program, ValueBuffer};
use self::weights::Weights;
use super::checks::not_allocated;
use super::{
    Backend, BackendError, BackendInfo, BlockId, Counters, FormsFrom, KernelTime, Parts, ProgramId, ProgramSpec,
    Result, StepTable, Ticket, state_io,
};
use crate::formats::Quantised;
use crate::graph::{Graph, RowBlock, RowQuantiser, SinkError, SourceBlock, ValueId, WeightDesc, WeightId, WeightSink};
use crate::state::{Sampler, SlotId, SlotState, StateLayout};

pub use forms::{Form, FormKind, NoForm};
pub use gpu::{Measure, WebGpuOptions, adapters};
pub use kept::{FormStore, LONGEST_FORMS, kept_forms};
pub use scratch::scratch_bytes;

/// Steps whose tokens may wait to be read.
const STAGING: usize = 32;

/// A step whose tokens were not read yet.
struct InFlight {
    ticket: Ticket,
    outputs: usize,
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
}

/// A GPU, and everything on it.
pub struct WebGpuBackend {
    gpu: Rc<Gpu>,
    /// The device's, with the forms that were chosen.
    info: BackendInfo,
    weights: Weights,
    memory: Option<Memory>,
    workspace: Workspace,
    /// Rows on their way from one program to another.
    carried: Option<wgpu::Buffer>,
    programs: Vec<Option<Program>>,
    in_flight: std::collections::VecDeque<InFlight>,
    /// Mappable buffers that wait to be used.
    staging: Vec<wgpu::Buffer>,
    tickets: u64,
    /// Where kernels are timed.
    profiler: Option<Profiler>,
}

impl WebGpuBackend {
    /// Opens a device and tests its kernels.
    pub async fn new(options: &WebGpuOptions) -> Result<Self> {
        let gpu = Gpu::open(options).await?;
        let mut notice = None;
        if options.self_test {
            notice = self_test::run(&gpu).await?;
        }
        *gpu.counters.borrow_mut() = Counters::default();
        let profiler = options.profile.then(Profiler::default);
        let forms_from = if gpu.free_kinds().next().is_none() { FormsFrom::Given } else { FormsFrom::Unmeasured };
        let (forms, forms_from) = (Some(gpu.forms.get().to_string()), Some(forms_from));
        let info = BackendInfo { forms, forms_from, notice, ..gpu.info.clone() };
        Ok(Self { profiler, info, ..Self::on(gpu) })
    }

    fn on(gpu: Rc<Gpu>) -> Self {
        Self {
            info: gpu.info.clone(),
            gpu,
            weights: Weights::default(),
            memory: None,
            workspace: Workspace::default(),
            carried: None,
            programs: vec![],
            in_flight: Default::default(),
            staging: vec![],
            tickets: 0,
            profiler: None,
        }
    }

    fn program(&self, id: ProgramId) -> Result<&Program> {
        let program = self.programs.get(id.0 as usize).and_then(Option::as_ref);
        program.ok_or_else(|| BackendError::Misuse(format!("no program {}", id.0)))
    }

    fn memory(&self) -> Result<&Memory> {
        self.memory.as_ref().ok_or_else(not_allocated)
    }

    fn kept(&self, program: ProgramId, value: ValueId) -> Result<&ValueBuffer> {
        let place = self.program(program)?.places.get(&value);
        place.ok_or_else(|| BackendError::Misuse(format!("value {} is not kept", value.0)))
    }

    /// A mappable buffer for so many tokens.
    fn staging(&mut self, bytes: u64) -> Result<wgpu::Buffer> {
        if self.in_flight.len() >= STAGING {
            // Nobody asked for the oldest tokens.
            if let Some(oldest) = self.in_flight.pop_front() {
                self.staging.push(oldest.staging);
            }
        }
        if let Some(index) = self.staging.iter().position(|b| b.size() >= bytes) {
            return Ok(self.staging.swap_remove(index));
        }
        self.gpu.buffer("tokens", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }
}

impl RowQuantiser for WebGpuBackend {
    fn quantise<'a>(
        &'a mut self,
        format: Quantised,
        columns: usize,
        block: SourceBlock<'a>,
    ) -> LocalBoxFuture<'a, Result<Vec<u8>, SinkError>> {
        Box::pin(async move { Ok(self.weights.quantiser.rows(&self.gpu, format, columns, &block).await?) })
    }
}

impl WeightSink for WebGpuBackend {
    type Error = BackendError;

    fn create_weight(&mut self, id: WeightId, desc: &WeightDesc) -> Result<()> {
        self.weights.create(&self.gpu, id, desc)
    }

    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(self.weights.write(&self.gpu, id, block))
    }

    fn quantises(&self) -> bool {
        self.gpu.quantises
    }

    fn quantise_weight<'a>(&'a mut self, id: WeightId, block: SourceBlock<'a>) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(self.weights.quantise(&self.gpu, id, block))
    }
}

impl Backend for WebGpuBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn allocate(&mut self, layout: &StateLayout) -> Result<()> {
        self.weights.settle();
        // What they were compiled for has changed. Their ids are not given again.
        self.programs.fill_with(|| None);
        // It holds tables as long as the context.
        self.workspace = Workspace::default();
        self.memory = Some(Memory::new(&self.gpu, layout)?);
        Ok(())
    }

    fn compile(&mut self, graph: &Graph, spec: &ProgramSpec) -> Result<ProgramId> {
        let memory = self.memory.as_ref().ok_or_else(not_allocated)?;
        let program = lower(&self.gpu, graph, spec, &mut self.weights, memory, &mut self.workspace)?;
        self.programs.push(Some(program));
        Ok(ProgramId(self.programs.len() as u32 - 1))
    }

    fn set_pages(&mut self, slot: SlotId, pages: &[u32]) -> Result<()> {
        self.memory.as_mut().ok_or_else(not_allocated)?.set_pages(&self.gpu, slot, pages)
    }

    fn reset(&mut self, slot: SlotId) -> Result<()> {
        self.memory.as_mut().ok_or_else(not_allocated)?.reset(&self.gpu, slot)
    }

    fn set_sampler(&mut self, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()> {
        self.memory()?.set_sampler(&self.gpu, slot, sampler, seen)
    }

    fn set_mask(&mut self, slot: SlotId, mask: Option<&[u32]>) -> Result<()> {
        self.memory()?.set_mask(&self.gpu, slot, mask)
    }

    fn choose_forms<'a>(&'a mut self, graph: &'a Graph) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.gpu.measure.get() == Measure::Never || self.gpu.free_kinds().next().is_none() {
                return Ok(());
            }
            let before = *self.gpu.counters.borrow();
            let chosen = kept::choose(self, graph).await;
            let forms_timed = self.gpu.counters.borrow().forms_timed;
            *self.gpu.counters.borrow_mut() = Counters { forms_timed, ..before };
            self.info.forms = Some(self.gpu.forms.get().to_string());
            self.info.forms_from = Some(chosen?);
            Ok(())
        })
    }

    fn step(&mut self, id: ProgramId, table: &StepTable) -> Result<Ticket> {
        let program = self.program(id)?;
        program.check(table)?;
        let words = table.words(program.spec.rows, program.spec.outputs);
        self.gpu.queue.write_buffer(&program.table, 0, bytemuck::cast_slice(&words));
        let outputs = table.outputs.len();
        let bytes = (outputs * 4).next_multiple_of(16) as u64;
        let wanted = outputs > 0 && program.sampled.is_some();
        let staging = if wanted { Some(self.staging(bytes)?) } else { None };

        let mut profiler = self.profiler.take();
        let program = self.program(id)?;
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let encoded = match &mut profiler {
            Some(profiler) => profiler.encode(&self.gpu, program, &mut encoder),
            None => {
                program.encode(&mut encoder);
                Ok(())
            }
        };
        if let (Some(staging), Some(sampled)) = (&staging, &program.sampled) {
            encoder.copy_buffer_to_buffer(sampled, 0, staging, 0, Some((outputs * 4) as u64));
        }
        let dispatches = program.dispatches.len() as u64;
        self.profiler = profiler;
        encoded?;
        let submission = self.gpu.submit([encoder.finish()]);
        {
            let mut counters = self.gpu.counters.borrow_mut();
            counters.steps += 1;
            counters.dispatches += dispatches;
            counters.bytes_written += (words.len() * 4) as u64;
        }
        self.gpu.check("running a step")?;
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        if wanted && let Some(memory) = &mut self.memory {
            table.note_outputs(&mut memory.has_token);
        }
        if let Some(staging) = staging {
            self.in_flight.push_back(InFlight { ticket, outputs, staging, submission });
        }
        Ok(ticket)
    }

    fn sampled(&mut self, ticket: Ticket) -> LocalBoxFuture<'_, Result<Vec<u32>>> {
        Box::pin(async move {
            let Some(index) = self.in_flight.iter().position(|s| s.ticket == ticket) else {
                return Err(BackendError::Misuse(format!("step {} gave no tokens, or they were read", ticket.0)));
            };
            let Some(InFlight { outputs, staging, submission, .. }) = self.in_flight.remove(index) else {
                return Err(BackendError::Misuse("a step vanished".into()));
            };
            let bytes = self.gpu.map(&staging, (outputs * 4) as u64, Some(submission)).await?;
            self.gpu.counters.borrow_mut().bytes_read += bytes.len() as u64;
            self.staging.push(staging);
            Ok(bytemuck::pod_collect_to_vec(&bytes))
        })
    }

    fn read(&mut self, program: ProgramId, value: ValueId, rows: usize) -> LocalBoxFuture<'_, Result<Vec<f32>>> {
        Box::pin(async move {
            let place = self.kept(program, value)?.clone();
            let bytes = self.gpu.download(&place.buffer, 0, (rows * place.pitch * 4) as u64).await?;
            self.gpu.counters.borrow_mut().bytes_read += bytes.len() as u64;
            let padded = bytemuck::pod_collect_to_vec::<u8, f32>(&bytes);
            Ok(padded.chunks_exact(place.pitch).flat_map(|row| &row[..place.width]).copied().collect())
        })
    }

    fn write(&mut self, program: ProgramId, value: ValueId, data: &[f32]) -> Result<()> {
        let place = self.kept(program, value)?;
        let mut padded = vec![0.0; data.len() / place.width * place.pitch];
        for (to, from) in padded.chunks_exact_mut(place.pitch).zip(data.chunks_exact(place.width)) {
            to[..place.width].copy_from_slice(from);
        }
        self.gpu.queue.write_buffer(&place.buffer, 0, bytemuck::cast_slice(&padded));
        self.gpu.check("writing an input")
    }

    fn settle(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.gpu.finish().await?;
            self.gpu.check("loading the model")
        })
    }

    fn snapshot(&mut self, slot: SlotId, position: usize) -> LocalBoxFuture<'_, Result<SlotState>> {
        Box::pin(
            async move { state_io::snapshot(&Io { gpu: &self.gpu, memory: self.memory()? }, slot, position).await },
        )
    }

    fn restore_parts(&mut self, slot: SlotId, state: &SlotState, parts: Parts) -> Result<()> {
        self.memory.as_mut().ok_or_else(not_allocated)?.restore(&self.gpu, slot, state, parts)
    }

    fn save_block(&mut self, slot: SlotId) -> Result<BlockId> {
        let memory = self.memory.as_mut().ok_or_else(not_allocated)?;
        self.gpu.counters.borrow_mut().bytes_copied += memory.layout.block_bytes();
        memory.save_block(&self.gpu, slot)
    }

    fn load_block(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        let memory = self.memory.as_mut().ok_or_else(not_allocated)?;
        self.gpu.counters.borrow_mut().bytes_copied += memory.layout.block_bytes();
        memory.load_block(&self.gpu, slot, block)
    }

    fn rewind(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        let memory = self.memory()?;
        self.gpu.counters.borrow_mut().bytes_copied += memory.layout.block_bytes();
        memory.rewind(&self.gpu, slot, block)
    }

    fn set_verifying(&mut self, slot: SlotId, verifying: bool) -> Result<()> {
        self.memory()?.set_verifying(&self.gpu, slot, verifying)
    }

    fn set_chosen(&mut self, slot: SlotId, chosen: u32, last: u32, finished: bool) -> Result<()> {
        self.memory.as_mut().ok_or_else(not_allocated)?.set_chosen(&self.gpu, slot, chosen, last, finished)
    }

    fn copy_rows(
        &mut self,
        (from, value): (ProgramId, ValueId),
        rows: Range<usize>,
        (to, input): (ProgramId, ValueId),
    ) -> Result<()> {
        let (from, to) = (self.kept(from, value)?.clone(), self.kept(to, input)?.clone());
        let pitch = (from.pitch * 4) as u64;
        let (at, bytes) = (rows.start as u64 * pitch, rows.len() as u64 * pitch);
        if from.pitch != to.pitch || at + bytes > from.buffer.size() || bytes > to.buffer.size() {
            let what = format!("rows {rows:?} of value {} for value {}, which has others", value.0, input.0);
            return Err(BackendError::Misuse(what));
        }
        // The two may lie in one buffer, which no copy may read and write.
        let detour = match self.carried.take().filter(|carried| carried.size() >= bytes) {
            Some(carried) => carried,
            None => self.gpu.storage("carried rows", bytes)?,
        };
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&from.buffer, at, &detour, 0, Some(bytes));
        encoder.copy_buffer_to_buffer(&detour, 0, &to.buffer, 0, Some(bytes));
        self.gpu.submit([encoder.finish()]);
        self.carried = Some(detour);
        self.gpu.counters.borrow_mut().bytes_copied += bytes;
        self.gpu.check("copying rows")
    }

    fn speculates(&self) -> bool {
        true
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
            let bytes = self.gpu.download(&*memory.block(block)?, 0, memory.layout.block_bytes()).await?;
            state_io::snapshot_block(&Io { gpu: &self.gpu, memory }, &bytes, pages, positions).await
        })
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        let copied = self.memory()?.copy_page(&self.gpu, from, to)?;
        self.gpu.counters.borrow_mut().bytes_copied += copied as u64;
        Ok(())
    }

    fn counters(&self) -> Counters {
        *self.gpu.counters.borrow()
    }

    fn device_bytes(&self) -> Option<u64> {
        self.gpu.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    fn device_objects(&self) -> Option<u64> {
        let hal = self.gpu.device.get_internal_counters().hal;
        let kinds =
            [&hal.buffers, &hal.bind_groups, &hal.bind_group_layouts, &hal.compute_pipelines, &hal.shader_modules];
        let count: isize = kinds.iter().map(|counter| counter.read()).sum();
        u64::try_from(count).ok().filter(|&n| n > 0)
    }

    fn kernel_times(&mut self) -> LocalBoxFuture<'_, Result<Vec<KernelTime>>> {
        Box::pin(async move {
            match &mut self.profiler {
                Some(profiler) => profiler.read(&self.gpu).await,
                None => Ok(vec![]),
            }
        })
    }

    fn dispatches(&self, program: ProgramId) -> Vec<String> {
        let name = |d: &program::Dispatch| format!("{} ({})", d.op, d.pipeline.shader.name);
        self.program(program).map_or_else(|_| vec![], |p| p.dispatches.iter().map(name).collect())
    }
}
