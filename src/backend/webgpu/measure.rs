//! Choice of forms by measurement: those of a kind run the same few ops of the model itself, with its own weights, and the
//! fastest is kept. Nothing that a slot remembers changes: such kernels write to values alone.

use std::time::Duration;

use web_time::Instant;

use super::WebGpuBackend;
use super::forms::FormKind;
use super::gpu::Gpu;
use super::lower::{Workspace, lower};
use super::program::{Program, encode};
use crate::backend::checks::not_allocated;
use crate::backend::{BackendError, Outputs, ProgramSpec, Result, Span, Step, StepTable, Tokens};
use crate::graph::Graph;
use crate::state::SlotId;

/// Ops of a kind that run.
const MOST_OPS: usize = 6;
/// Rows of a prompt.
const ROWS: usize = 64;
/// Positions before them.
const DEPTH: usize = 448;
/// Kernels run so often in one submit that this takes a while, beside which a submit's own time is small.
const ENOUGH: Duration = Duration::from_millis(5);
const MOST_REPEATS: usize = 64;
/// Submits of each form that are timed, in turn, so that other work on the machine meets both; the least time counts. On a
/// slow device they end when so much time is spent.
const SUBMITS: usize = 6;
const PATIENCE: Duration = Duration::from_millis(300);
/// Part of the first form's time within which another one has to be: what is almost the same is no reason.
const WORTH: f64 = 0.95;

impl FormKind {
    fn rows(self) -> usize {
        match self {
            Self::FewRows | Self::FewAttention | Self::Norms => 1,
            Self::ManyRows | Self::Attention | Self::Scan => ROWS,
        }
    }

    /// Positions before them, where the context has so many. What a token sees grows while it is written.
    fn depth(self) -> usize {
        if self == Self::FewAttention { 4 * DEPTH } else { DEPTH }
    }
}

/// Chooses among the forms that were not given.
pub(super) async fn choose(backend: &mut WebGpuBackend, graph: &Graph) -> Result<()> {
    let gpu = backend.gpu.clone();
    let mut workspace = Workspace::default();
    for kind in gpu.free_kinds() {
        let candidates = kind.forms().into_iter().filter(|form| form.runs_on(&gpu.info));
        let [first, other] = candidates.collect::<Vec<_>>()[..] else { continue };
        let before = gpu.forms.get();
        let mut trials = Vec::with_capacity(2);
        let mut refused = None;
        for form in [first, other] {
            gpu.forms.set(before.with(form));
            let trial = Trial::new(backend, &mut workspace, graph, kind).await;
            gpu.forms.set(before);
            match trial {
                Ok(trial) => trials.extend(trial),
                Err(BackendError::Driver { .. }) => refused = Some(form),
                Err(error) => return Err(error),
            }
        }
        gpu.counters.borrow_mut().forms_timed += trials.len() as u64;
        let start = Instant::now();
        for _ in 0..SUBMITS {
            for trial in &mut trials {
                trial.least = trial.least.min(trial.time(&gpu).await?);
            }
            if start.elapsed() > PATIENCE {
                break;
            }
        }
        gpu.check("timing kernels")?;
        let chosen = match (refused, &trials[..]) {
            // One that the driver does not take is not chosen.
            (Some(refused), _) => Some(if refused == first { other } else { first }),
            (None, [one, another]) if another.least.as_secs_f64() < WORTH * one.least.as_secs_f64() => Some(other),
            (None, [_, _]) => Some(first),
            _ => None,
        };
        gpu.forms.set(chosen.map_or(before, |form| before.with(form)));
    }
    workspace.destroy();
    Ok(())
}

/// The kernels of a kind in one form, ready to run.
struct Trial {
    program: Program,
    /// Which of the program's they are.
    kernels: Vec<usize>,
    /// How often they run in one submit.
    repeats: usize,
    /// The least time that they took.
    least: Duration,
}

impl Trial {
    /// Compiles a step, and lets the kernels run until a submit takes long enough. `None` where the graph has none.
    async fn new(
        backend: &mut WebGpuBackend,
        workspace: &mut Workspace,
        graph: &Graph,
        kind: FormKind,
    ) -> Result<Option<Self>> {
        let gpu = backend.gpu.clone();
        let memory = backend.memory.as_ref().ok_or_else(not_allocated)?;
        let rows = kind.rows().min(memory.layout.context);
        let spec = ProgramSpec { rows, outputs: 1, keep: Default::default() };
        let program = lower(&gpu, graph, &spec, &mut backend.weights, memory, workspace)?;
        let of_kind = |&kernel: &usize| {
            let name = program.dispatches[kernel].pipeline.shader.name;
            kind.forms().into_iter().any(|form| form.has_shader(name))
        };
        let mut kernels: Vec<usize> = (0..program.dispatches.len()).filter(of_kind).collect();
        if kernels.is_empty() {
            return Ok(None);
        }
        if kind == FormKind::Norms {
            // Ops move from kernel to kernel: what belongs to the first linear layers.
            let mut linears = 0;
            kernels.retain(|&kernel| {
                let among = linears < 2 * MOST_OPS;
                linears += usize::from(program.dispatches[kernel].pipeline.shader.name.starts_with("linear"));
                among
            });
        } else {
            // One form may have more kernels an op than another.
            let node = |kernel: usize| program.dispatches[kernel].node;
            let mut ops: Vec<usize> = kernels.iter().map(|&kernel| node(kernel)).collect();
            ops.dedup();
            ops.truncate(MOST_OPS);
            kernels.retain(|&kernel| ops.contains(&node(kernel)));
        }

        let first = kind.depth().min(memory.layout.context - rows);
        let tokens = Tokens::Given(vec![0; rows]);
        let span = Span { slot: SlotId(0), first, tokens, outputs: Outputs::Last };
        let table = StepTable::new(&Step { spans: vec![span] }, &memory.layout);
        let table = table.map_err(|error| BackendError::Misuse(format!("a step to measure: {error}")))?;
        let words = table.words(program.spec.rows, program.spec.outputs);
        gpu.queue.write_buffer(&program.table, 0, bytemuck::cast_slice(&words));
        let mut trial = Self { program, kernels, repeats: 1, least: Duration::MAX };
        // The first submit makes the device wake up.
        trial.time(&gpu).await?;
        while trial.repeats < MOST_REPEATS && trial.time(&gpu).await? * (trial.repeats as u32) < ENOUGH {
            trial.repeats *= 2;
        }
        // Browsers tell late what they do not take.
        gpu.check("timing kernels")?;
        Ok(Some(trial))
    }

    /// Time of the kernels in one submit.
    async fn time(&self, gpu: &Gpu) -> Result<Duration> {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let kernels = || self.kernels.iter().map(|&kernel| &self.program.dispatches[kernel]);
        (0..self.repeats).for_each(|_| encode(kernels(), &mut encoder));
        let start = Instant::now();
        gpu.submit([encoder.finish()]);
        gpu.finish().await?;
        Ok(start.elapsed() / self.repeats as u32)
    }
}
