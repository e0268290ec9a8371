//! Choice of forms by measurement: those of a kind run the same few ops of the model itself, with its own weights, and the
//! fastest is kept. Nothing that a slot remembers changes: such kernels write to values alone.

use std::time::Duration;

use web_time::Instant;

use super::WebGpuBackend;
use super::forms::{Form, FormKind};
use super::lower::lower;
use super::program::{Dispatch, encode};
use crate::backend::checks::not_allocated;
use crate::backend::{BackendError, Outputs, ProgramSpec, Result, Span, Step, StepTable, Tokens};
use crate::graph::Graph;

/// Kernels of a kind that run.
const MOST_KERNELS: usize = 6;
/// Rows of a prompt.
const ROWS: usize = 64;
/// Positions before them, where the context has so many.
const DEPTH: usize = 448;
/// A form is run again until so much time is gone, and `MOST_RUNS` times.
const ENOUGH: Duration = Duration::from_millis(20);
const MOST_RUNS: usize = 8;

impl FormKind {
    fn rows(self) -> usize {
        match self {
            Self::FewRows => 1,
            Self::ManyRows | Self::Attention => ROWS,
        }
    }
}

/// Chooses among the forms that were not given.
pub(super) async fn choose(backend: &mut WebGpuBackend, graph: &Graph) -> Result<()> {
    let gpu = backend.gpu.clone();
    let given = gpu.given_forms.clone();
    for kind in FormKind::ALL.into_iter().filter(|kind| given.iter().all(|form| form.kind() != *kind)) {
        let candidates: Vec<Form> = kind.forms().into_iter().filter(|form| form.runs_on(&gpu.info)).collect();
        let before = gpu.forms.get();
        let mut fastest = None;
        for &form in candidates.iter().filter(|_| candidates.len() > 1) {
            gpu.forms.set(before.with(form));
            let time = time(backend, graph, kind).await?;
            if let Some(time) = time.filter(|&time| fastest.is_none_or(|(least, _)| time < least)) {
                fastest = Some((time, form));
            }
        }
        gpu.forms.set(fastest.map_or(before, |(_, form)| before.with(form)));
    }
    backend.tell_forms();
    Ok(())
}

/// The least time of a kind's kernels in a step. `None` where the graph has none.
async fn time(backend: &mut WebGpuBackend, graph: &Graph, kind: FormKind) -> Result<Option<Duration>> {
    let gpu = backend.gpu.clone();
    let memory = backend.memory.as_ref().ok_or_else(not_allocated)?;
    let rows = kind.rows().min(memory.layout.context);
    let spec = ProgramSpec { rows, outputs: 1, keep: Default::default() };
    let program = lower(&gpu, graph, &spec, &mut backend.weights, memory, &mut backend.workspace)?;
    let of_kind = |dispatch: &&Dispatch| {
        Form::of_shader(dispatch.pipeline.shader.name).is_some_and(|form| form.kind() == kind)
    };
    let kernels: Vec<&Dispatch> = program.dispatches.iter().filter(of_kind).take(MOST_KERNELS).collect();
    if kernels.is_empty() {
        return Ok(None);
    }
    let first = DEPTH.min(memory.layout.context - rows);
    let tokens = Tokens::Given(vec![0; rows]);
    let span = Span { slot: memory.layout.initial_slot(), first, tokens, outputs: Outputs::Last };
    let table = StepTable::new(&Step { spans: vec![span] }, &memory.layout);
    let table = table.map_err(|error| BackendError::Misuse(format!("a step to measure: {error}")))?;
    let words = table.words(program.spec.rows, program.spec.outputs);
    gpu.queue.write_buffer(&program.table, 0, bytemuck::cast_slice(&words));
    let mut least = None;
    let began = Instant::now();
    // The first run makes the device wake up.
    for run in 0..=MOST_RUNS {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(kernels.iter().copied(), &mut encoder);
        let start = Instant::now();
        gpu.submit([encoder.finish()]);
        gpu.finish().await?;
        if run > 0 {
            least = Some(least.map_or(start.elapsed(), |least: Duration| least.min(start.elapsed())));
            if began.elapsed() > ENOUGH {
                break;
            }
        }
    }
    gpu.check("timing kernels")?;
    Ok(least)
}
