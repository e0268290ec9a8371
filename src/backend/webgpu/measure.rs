//! Choice of forms by measurement: those of a kind run the same few ops of the model itself, with its own weights, and the
//! fastest is kept. Nothing that a slot remembers changes: such kernels write to values alone.

use std::time::Duration;

use web_time::Instant;

use super::WebGpuBackend;
use super::forms::FormKind;
use super::lower::{Workspace, lower};
use super::program::{Dispatch, encode};
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
/// They run so often in one submit that this takes a while, beside which a submit's own time is small; and so many submits are
/// timed, of which the least counts.
const ENOUGH: Duration = Duration::from_millis(5);
const MOST_REPEATS: usize = 64;
const SUBMITS: usize = 4;
/// Part of the first form's time within which another one has to be: what is almost the same is no reason.
const WORTH: f64 = 0.95;

impl FormKind {
    fn rows(self) -> usize {
        match self {
            Self::FewRows | Self::FewAttention => 1,
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
    for kind in FormKind::ALL {
        let candidates = kind.forms().into_iter().filter(|form| form.runs_on(&gpu.info));
        let [first, other] = candidates.collect::<Vec<_>>()[..] else { continue };
        if gpu.given_forms.iter().any(|form| form.kind() == kind) {
            continue;
        }
        let before = gpu.forms.get();
        let mut times = [None; 2];
        for (time, form) in times.iter_mut().zip([first, other]) {
            gpu.forms.set(before.with(form));
            let measured = least_time(backend, &mut workspace, graph, kind).await;
            gpu.forms.set(before);
            *time = match measured {
                // One that the driver does not take is not chosen.
                Err(BackendError::Driver { .. }) => None,
                other => other?,
            };
        }
        if let [Some(first_time), Some(other_time)] = times {
            let faster = other_time.as_secs_f64() < WORTH * first_time.as_secs_f64();
            gpu.forms.set(before.with(if faster { other } else { first }));
        }
    }
    workspace.destroy();
    Ok(())
}

/// The least time of a kind's kernels in a step. `None` where the graph has none.
async fn least_time(
    backend: &mut WebGpuBackend,
    workspace: &mut Workspace,
    graph: &Graph,
    kind: FormKind,
) -> Result<Option<Duration>> {
    let gpu = backend.gpu.clone();
    let memory = backend.memory.as_ref().ok_or_else(not_allocated)?;
    let rows = kind.rows().min(memory.layout.context);
    let spec = ProgramSpec { rows, outputs: 1, keep: Default::default() };
    let program = lower(&gpu, graph, &spec, &mut backend.weights, memory, workspace)?;
    let of_kind =
        |dispatch: &&Dispatch| kind.forms().into_iter().any(|form| form.has_shader(dispatch.pipeline.shader.name));
    let mut kernels: Vec<&Dispatch> = program.dispatches.iter().filter(of_kind).collect();
    // One form may have more kernels an op than another.
    let mut ops: Vec<usize> = kernels.iter().map(|kernel| kernel.node).collect();
    ops.dedup();
    kernels.retain(|kernel| ops.iter().take(MOST_OPS).any(|&op| op == kernel.node));
    if kernels.is_empty() {
        return Ok(None);
    }
    let first = kind.depth().min(memory.layout.context - rows);
    let tokens = Tokens::Given(vec![0; rows]);
    let span = Span { slot: SlotId(0), first, tokens, outputs: Outputs::Last };
    let table = StepTable::new(&Step { spans: vec![span] }, &memory.layout);
    let table = table.map_err(|error| BackendError::Misuse(format!("a step to measure: {error}")))?;
    let words = table.words(program.spec.rows, program.spec.outputs);
    gpu.queue.write_buffer(&program.table, 0, bytemuck::cast_slice(&words));
    let (mut repeats, mut submits, mut least) = (1, 0, Duration::MAX);
    // The first submit makes the device wake up.
    let mut awake = false;
    while submits < SUBMITS {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        (0..repeats).for_each(|_| encode(kernels.iter().copied(), &mut encoder));
        let start = Instant::now();
        gpu.submit([encoder.finish()]);
        gpu.finish().await?;
        let time = start.elapsed();
        if awake && time < ENOUGH && repeats < MOST_REPEATS {
            repeats *= 2;
            continue;
        }
        if std::mem::replace(&mut awake, true) {
            submits += 1;
            least = least.min(time / repeats as u32);
        }
        // A device so slow gives no better answer by more.
        if least > 4 * ENOUGH && least != Duration::MAX {
            break;
        }
    }
    gpu.check("timing kernels")?;
    Ok(Some(least))
}
