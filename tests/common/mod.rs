//! Cases for single ops and small groups of them, run on any backend and compared with the CPU references.

#![allow(dead_code, reason = "every test program uses its own part of this")]

pub mod cases;
pub mod checks;
pub mod not_finite;
mod random;
mod script;

use std::collections::{BTreeMap, BTreeSet};

use pollster::block_on;
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::{Backend, BackendError, ProgramId, ProgramSpec, Result, Span, Step, StepTable, Tokens};
use selvedge::graph::{Graph, Op, RowBlock, ValueId, WeightDesc, WeightFormat, WeightId};
use selvedge::state::{Sampler, SlotId, SlotState, StateLayout};

pub use random::Random;
pub use script::Script;

/// A small graph with everything that is needed to run it.
#[derive(Clone)]
pub struct OpCase {
    /// The op that it is about: [`selvedge::graph::Op::name`].
    pub op: &'static str,
    /// Formats and shapes.
    pub detail: String,
    /// What is computed.
    pub graph: Graph,
    /// One a recipe, by id.
    pub weights: Vec<(WeightDesc, Vec<u8>)>,
    /// The slots.
    pub layout: StateLayout,
    /// Page table of every slot.
    pub pages: Vec<Vec<u32>>,
    /// What happens, in order.
    pub actions: Vec<Action>,
    /// Values compared after every step.
    pub keep: BTreeSet<ValueId>,
    /// Largest difference allowed, relative to the largest number of what is compared (at least 1).
    pub tolerance: f32,
}

/// Something that happens to the slots.
#[derive(Clone)]
pub enum Action {
    /// A step, with the graph's inputs in their order: `[rows, width]`.
    Step(Step, Vec<Vec<f32>>),
    /// [`Backend::set_sampler`]
    Sampler(SlotId, Sampler, Vec<u32>),
    /// [`Backend::set_mask`]
    Mask(SlotId, Option<Vec<u32>>),
    /// [`Backend::reset`]
    Reset(SlotId),
    /// [`Backend::export`] from the first slot at its position, [`Backend::import`] into the second.
    Move(SlotId, usize, SlotId),
    /// [`Backend::export`], to be compared.
    Snapshot(SlotId, usize),
}

impl OpCase {
    /// The same with the first span of every step cut: the first row alone or with others, as often as
    /// there are `lengths`, then the rest.
    pub fn cut(&self, lengths: &[usize]) -> Self {
        let mut actions = vec![];
        for action in &self.actions {
            let Action::Step(step, inputs) = action else {
                actions.push(action.clone());
                continue;
            };
            let [span] = step.spans.as_slice() else { panic!("only steps of one span are cut") };
            let Tokens::Given(ids) = &span.tokens else { panic!("only known tokens are cut") };
            let mut from = 0;
            for &length in lengths.iter().chain([&ids.len()]) {
                let rows = from..ids.len().min(from + length);
                if rows.is_empty() {
                    continue;
                }
                let span =
                    Span { first: span.first + from, tokens: Tokens::Given(ids[rows.clone()].to_vec()), ..*span };
                let columns = inputs.iter().map(|input| input.len() / ids.len());
                let cut = inputs.iter().zip(columns).map(|(i, c)| i[rows.start * c..rows.end * c].to_vec());
                actions.push(Action::Step(Step { spans: vec![span] }, cut.collect()));
                from = rows.end;
            }
        }
        Self { actions, ..self.clone() }
    }
}

/// What came of a case.
#[derive(Debug, Default)]
pub struct CaseResult {
    /// Kept values after every step, with a name.
    pub values: Vec<(String, Vec<f32>)>,
    /// Sampled tokens of every step.
    pub tokens: Vec<Vec<u32>>,
    /// Exported slots.
    pub states: Vec<SlotState>,
}

impl OpCase {
    /// Whether a weight is in a quantised format.
    pub fn is_quantised(&self) -> bool {
        self.weights.iter().any(|(desc, _)| matches!(desc.format, WeightFormat::Quantised(_)))
    }
}

/// Runs cases on a backend, prints the largest difference of each to the CPU references, and fails if one is larger
/// than `slack` times its tolerance.
pub fn compare(name: &str, slack: f32, backend: &mut dyn Backend, cases: &[OpCase]) {
    let (mut faults, mut unsupported) = (vec![], 0);
    for case in cases {
        let wanted = run_case(&mut CpuBackend::reference(), case).expect("the CPU references run everything");
        assert!(wanted.tensors().any(|(_, numbers)| !numbers.is_empty()), "{case}: nothing is compared");
        let tolerance = case.tolerance * slack;
        let difference = match run_case(backend, case) {
            Err(error @ BackendError::Unsupported { .. }) => {
                println!("{name:8} {case:95} {error}");
                unsupported += 1;
                continue;
            }
            Err(error) => Err(error.to_string()),
            Ok(got) => got.difference(&wanted),
        };
        match difference {
            Ok((largest, place)) => {
                println!("{name:8} {case:95} {largest:.1e} of {tolerance:.0e}");
                if largest > tolerance {
                    faults.push(format!("{name} {case}: off by {largest:e} at {place}"));
                }
            }
            Err(error) => faults.push(format!("{name} {case}: {error}")),
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
    assert!(unsupported * 20 <= cases.len(), "{name} leaves out {unsupported} of {} cases", cases.len());
}

/// Rows that programs are compiled for.
const BUCKETS: [usize; 6] = [1, 4, 16, 64, 256, 512];

/// Compiles one case of every op, unfused, and fails where an op starts no kernel: what it makes would be left as it
/// was.
pub fn starts_every_op(name: &str, backend: &mut dyn Backend, cases: &[OpCase]) {
    for op in Op::NAMES {
        let case = cases.iter().find(|case| case.op == *op).unwrap_or_else(|| panic!("no case of {op}"));
        prepare(backend, case).expect("weights and slots");
        let keep: BTreeSet<ValueId> = case.graph.ops.iter().filter_map(Op::writes).collect();
        // Few rows and many are different kernels.
        for rows in [1, 300] {
            let spec = ProgramSpec { rows, outputs: rows, keep: keep.clone() };
            let program = backend.compile(&case.graph, &spec).expect("a program");
            let kernels = backend.dispatches(program);
            for op in case.graph.ops.iter().map(Op::name) {
                let count = |names: &mut dyn Iterator<Item = &str>| names.filter(|name| *name == op).count();
                let started = count(&mut kernels.iter().map(|kernel| kernel.split(' ').next().unwrap_or(kernel)));
                let wanted = count(&mut case.graph.ops.iter().map(Op::name));
                assert!(started >= wanted, "{name}, {rows} rows: {wanted} x {op} start {started} of {kernels:?}");
            }
        }
    }
}

/// Puts a case's weights and slots on a backend.
fn prepare(backend: &mut dyn Backend, case: &OpCase) -> Result<()> {
    for (index, (desc, bytes)) in case.weights.iter().enumerate() {
        let id = WeightId(index as u32);
        backend.create_weight(id, desc)?;
        // In two blocks, as a loader would bring them.
        let (row, half) = (bytes.len() / desc.rows, desc.rows / 2);
        let (head, tail) = bytes.split_at(half * row);
        for (first, bytes) in [(0, head), (half, tail)] {
            if !bytes.is_empty() {
                block_on(backend.write_weight(id, RowBlock { first, bytes }))?;
            }
        }
    }
    backend.allocate(&case.layout)?;
    for (slot, pages) in case.pages.iter().enumerate() {
        backend.set_pages(SlotId(slot as u32), pages)?;
    }
    Ok(())
}

/// Runs a case on a backend, whatever ran on it before.
pub fn run_case(backend: &mut dyn Backend, case: &OpCase) -> Result<CaseResult> {
    prepare(backend, case)?;
    let mut programs: BTreeMap<usize, ProgramId> = BTreeMap::new();
    let mut result = CaseResult::default();
    for action in &case.actions {
        match action {
            Action::Step(step, inputs) => {
                let rows = BUCKETS.into_iter().find(|&rows| rows >= step.rows()).unwrap_or(step.rows());
                let program = match programs.get(&rows) {
                    Some(&program) => program,
                    None => {
                        let spec = ProgramSpec { rows, outputs: rows, keep: case.keep.clone() };
                        *programs.entry(rows).or_insert(backend.compile(&case.graph, &spec)?)
                    }
                };
                for (&input, data) in case.graph.inputs.iter().zip(inputs) {
                    backend.write(program, input, data)?;
                }
                let table = StepTable::new(step, &case.layout).expect("a step that fits its layout");
                let ticket = backend.step(program, &table)?;
                let samples = !table.outputs.is_empty() && case.graph.logits.is_some();
                result.tokens.push(if samples { block_on(backend.sampled(ticket))? } else { vec![] });
                for &value in case.keep.iter() {
                    let info = case.graph.value(value);
                    let name = format!("`{}` of step {}", info.name, result.tokens.len());
                    let numbers = block_on(backend.read(program, value, table.count(info.rows)))?;
                    result.values.push((name, numbers));
                }
            }
            Action::Sampler(slot, sampler, seen) => backend.set_sampler(*slot, sampler, seen)?,
            Action::Mask(slot, mask) => backend.set_mask(*slot, mask.as_deref())?,
            Action::Reset(slot) => backend.reset(*slot)?,
            Action::Move(from, position, to) => {
                let state = block_on(backend.snapshot(*from, *position))?;
                backend.restore(*to, &state)?;
                result.states.push(state);
            }
            Action::Snapshot(slot, position) => result.states.push(block_on(backend.snapshot(*slot, *position))?),
        }
    }
    Ok(result)
}

impl CaseResult {
    /// The largest difference to what is wanted, relative to the largest number of the tensor it occurs
    /// in (at least 1), and where it occurs. An error where shapes or tokens differ.
    pub fn difference(&self, wanted: &Self) -> Result<(f32, String), String> {
        if self.tokens != wanted.tokens {
            return Err(format!("tokens {:?}, wanted {:?}", self.tokens, wanted.tokens));
        }
        let names = |result: &Self| -> Vec<(String, usize)> {
            result.tensors().map(|(name, numbers)| (name, numbers.len())).collect()
        };
        if names(self) != names(wanted) {
            return Err(format!("{:?}, wanted {:?}", names(self), names(wanted)));
        }
        for (state, wanted) in self.states.iter().zip(&wanted.states) {
            if state.sampler != wanted.sampler {
                return Err(format!("{:?}, wanted {:?}", state.sampler, wanted.sampler));
            }
            for (tensor, wanted) in state.tensors.iter().zip(&wanted.tensors) {
                if (&tensor.shape, &tensor.positions) != (&wanted.shape, &wanted.positions) {
                    return Err(format!("`{}` has another shape or other positions", tensor.name));
                }
            }
        }
        let mut worst = (0.0, "nowhere".to_owned());
        for ((name, got), (_, wanted)) in self.tensors().zip(wanted.tensors()) {
            let scale = wanted.iter().fold(1.0_f32, |largest, x| largest.max(x.abs()));
            for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                let difference = (got - wanted).abs() / scale;
                // What is not a number is as far off as can be.
                let difference = if difference.is_nan() { f32::INFINITY } else { difference };
                if difference > worst.0 {
                    worst = (difference, format!("{name}[{i}]: {got}, wanted {wanted}"));
                }
            }
        }
        Ok(worst)
    }

    fn tensors(&self) -> impl Iterator<Item = (String, &[f32])> {
        let values = self.values.iter().map(|(name, numbers)| (name.clone(), numbers.as_slice()));
        let states = self.states.iter().enumerate();
        values.chain(states.flat_map(|(i, state)| {
            state.tensors.iter().map(move |t| (format!("`{}` of export {}", t.name, i + 1), t.data.as_slice()))
        }))
    }
}
