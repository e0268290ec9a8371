//! The plain CPU: for every op its **reference**, the specification's sequential formula and the oracle of all
//! backends, and beside it, where it pays, a fast path (threads natively, vectorised inner loops).
//!
//! Each op has its own file, named by [`Op::name`](crate::graph::Op::name), with one struct that holds the
//! op's operands. Its `reference` is the formula; its `fast` is the fast path; an op whose formula is fast
//! enough row by row has one `run` for both.

mod activation;
mod add;
mod attention;
mod conv;
mod conv_append;
mod embed;
mod freeze;
mod gate;
mod gated_delta;
mod gather;
mod kv_append;
mod linear;
mod math;
mod memory;
mod moe_apply;
mod moe_route;
mod norm;
mod parallel;
mod program;
mod rope;
mod rows;
mod sample;
mod selective_scan;
mod simd;
mod spans;
mod ssd_scan;
mod weights;

use std::collections::VecDeque;
use std::ops::Range;

use futures::future::{LocalBoxFuture, ready};

use super::checks::{no_program, not_allocated};
use super::{
    Backend, BackendError, BackendInfo, BackendKind, BlockId, Counters, Parts, ProgramId, ProgramSpec, Result,
    StepTable, Ticket, state_io,
};
use crate::graph::{Graph, RowBlock, ValueId, WeightDesc, WeightId, WeightSink};
use crate::state::{Sampler, SlotId, SlotState, StateLayout};
use freeze::Frozen;
use memory::Memory;
use program::{Program, StepInputs};
use simd::Integers;
use weights::{Weight, Weights};

/// Steps whose sampled tokens are kept until somebody asks for them.
const KEPT_RESULTS: usize = 256;

/// The CPU as a backend. A step is finished when [`Backend::step`] returns; all futures are ready at once.
pub struct CpuBackend {
    info: BackendInfo,
    fast: bool,
    /// What quantised weights are multiplied by.
    integers: Option<Integers>,
    weights: Weights,
    memory: Option<Memory>,
    /// By id; `None` once the weights or the memory they were compiled for are gone.
    programs: Vec<Option<Program>>,
    /// Sampled tokens of the latest steps.
    results: VecDeque<(Ticket, Vec<u32>)>,
    counters: Counters,
}

impl CpuBackend {
    /// Fast paths where there are any. What is multiplied with quantised weights is rounded to 8 bits a number where the
    /// processor multiplies integers faster.
    pub fn new() -> Self {
        Self { integers: Integers::best(), ..Self::in_floats() }
    }

    /// The same, and nothing is rounded.
    pub fn in_floats() -> Self {
        Self::with(true, format!("{} threads", parallel::threads()))
    }

    /// References only: slow, and what every backend is compared with.
    pub fn reference() -> Self {
        Self::with(false, "reference".into())
    }

    fn with(fast: bool, adapter: String) -> Self {
        let info = BackendInfo {
            kind: BackendKind::Cpu,
            adapter,
            driver: format!("selvedge {}", env!("CARGO_PKG_VERSION")),
            software: false,
            f16: false,
            subgroups: false,
            least_subgroup: 0,
            most_subgroup: 0,
            forms: None,
            forms_from: None,
            notice: None,
            max_binding: u64::MAX,
            memory: crate::backend::host::free_memory(),
        };
        Self {
            info,
            fast,
            integers: None,
            weights: Weights::default(),
            memory: None,
            programs: vec![],
            results: VecDeque::new(),
            counters: Counters::default(),
        }
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

    /// Ends the life of all programs: what they were compiled for has changed.
    fn drop_programs(&mut self) {
        self.programs.fill_with(|| None);
    }
}

impl Default for CpuBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl WeightSink for CpuBackend {
    type Error = BackendError;

    fn create_weight(&mut self, id: WeightId, desc: &WeightDesc) -> Result<()> {
        self.drop_programs();
        self.weights.insert(id, Weight::new(desc)?);
        Ok(())
    }

    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(ready(self.weights.get_mut(id).and_then(|weight| weight.write(block))))
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn allocate(&mut self, layout: &StateLayout) -> Result<()> {
        self.drop_programs();
        self.memory = None;
        self.memory = Some(Memory::new(layout)?);
        Ok(())
    }

    fn compile(&mut self, graph: &Graph, spec: &ProgramSpec) -> Result<ProgramId> {
        let program = Program::new(graph, spec, &self.weights, self.memory()?)?;
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
        let (weights, fast, integers) = (&self.weights, self.fast, self.integers);
        let tokens = program.check(table, weights, memory)?;
        let sampled = parallel::within(|| -> Result<Vec<u32>> {
            Ok(match Frozen::find(table, &tokens, &memory.samplers) {
                None => program.run(StepInputs { weights, memory, table, tokens: &tokens, fast, integers })?,
                Some(frozen) => {
                    let Frozen { thawed, tokens, .. } = &frozen;
                    let rest = match thawed.rows.is_empty() {
                        true => vec![],
                        false => program.run(StepInputs { weights, memory, table: thawed, tokens, fast, integers })?,
                    };
                    frozen.merge(table, rest, &memory.samplers)
                }
            })
        })?;

        self.counters.steps += 1;
        self.counters.dispatches += program.ops().count() as u64;
        let ticket = Ticket(self.counters.steps);
        self.results.push_back((ticket, sampled));
        if self.results.len() > KEPT_RESULTS {
            self.results.pop_front();
        }
        Ok(ticket)
    }

    fn sampled(&mut self, ticket: Ticket) -> LocalBoxFuture<'_, Result<Vec<u32>>> {
        let place = self.results.iter().position(|(t, _)| *t == ticket);
        let found = place.and_then(|place| self.results.remove(place)).map(|(_, tokens)| tokens);
        let missing = || BackendError::Misuse(format!("the tokens of step {} were read or are too old", ticket.0));
        Box::pin(ready(found.ok_or_else(missing)))
    }

    fn read(&mut self, program: ProgramId, value: ValueId, rows: usize) -> LocalBoxFuture<'_, Result<Vec<f32>>> {
        Box::pin(ready(self.program(program).and_then(|program| program.read(value, rows))))
    }

    fn write(&mut self, id: ProgramId, value: ValueId, data: &[f32]) -> Result<()> {
        let program = self.programs.get_mut(id.0 as usize).and_then(Option::as_mut).ok_or_else(|| no_program(id))?;
        program.write(value, data)
    }

    fn snapshot(&mut self, slot: SlotId, position: usize) -> LocalBoxFuture<'_, Result<SlotState>> {
        Box::pin(async move { state_io::snapshot(self.memory()?, slot, position).await })
    }

    fn restore_parts(&mut self, slot: SlotId, state: &SlotState, parts: Parts) -> Result<()> {
        let memory = self.memory_mut()?;
        state_io::restore(memory, slot, state, parts)?;
        memory.samplers[slot.0 as usize].last = state.sampler.last;
        Ok(())
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

    fn rewind(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        let memory = self.memory.as_mut().ok_or_else(not_allocated)?;
        self.counters.bytes_copied += memory.layout.block_bytes();
        memory.rewind(slot, block)
    }

    fn set_verifying(&mut self, slot: SlotId, verifying: bool) -> Result<()> {
        self.memory_mut()?.sampler_mut(slot)?.verifying = verifying;
        Ok(())
    }

    fn set_chosen(&mut self, slot: SlotId, chosen: u32, last: u32, finished: bool) -> Result<()> {
        let sampler = self.memory_mut()?.sampler_mut(slot)?;
        (sampler.chosen, sampler.last, sampler.finished) = (chosen, Some(last), finished);
        Ok(())
    }

    fn copy_rows(
        &mut self,
        (from, value): (ProgramId, ValueId),
        rows: Range<usize>,
        (to, input): (ProgramId, ValueId),
    ) -> Result<()> {
        let values = self.program(from)?.read(value, rows.end)?;
        let width = values.len() / rows.end.max(1);
        let values = values.get(rows.start * width..).unwrap_or_default();
        self.counters.bytes_copied += size_of_val(values) as u64;
        self.write(to, input, values)
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
            state_io::snapshot_block(memory, &memory.block(block)?, pages, positions).await
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

    fn device_bytes(&self) -> Option<u64> {
        let programs: usize = self.programs.iter().flatten().map(Program::bytes).sum();
        Some((self.weights.bytes() + self.memory.as_ref().map_or(0, Memory::bytes) + programs) as u64)
    }

    fn dispatches(&self, program: ProgramId) -> Vec<String> {
        self.program(program).map_or_else(|_| vec![], |program| program.ops().map(str::to_owned).collect())
    }
}
