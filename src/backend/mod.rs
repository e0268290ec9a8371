//! A place to run graphs. A backend owns all device memory: weights, programs, slots.
//!
//! The order of calls: [`WeightSink::create_weight`] and [`WeightSink::write_weight`] for every weight of a
//! graph, [`Backend::allocate`], [`Backend::compile`] for each program, then [`Backend::step`].
//! Futures are not `Send`: in a browser they wait for promises.

mod blocks;
mod checks;
mod host;
mod state_io;
mod step;

pub mod cpu;
#[cfg(feature = "native-cuda")]
pub mod cuda;
pub mod webgpu;

use std::collections::BTreeSet;
use std::ops::Range;

use futures::future::{LocalBoxFuture, ready};

use crate::graph::{Graph, NotQuantised, ValueId, WeightSink};
use crate::state::{KvFormat, Sampler, SlotId, SlotState, StateLayout};

pub use step::{CHUNK_ROWS, Outputs, Span, Step, StepError, StepTable, TOKEN_OF_SLOT, Tokens};

/// What went wrong in a backend.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// There is no such device.
    #[error("no {kind} device: {reason}")]
    NoDevice {
        /// `gpu`, `cuda`
        kind: &'static str,
        /// What was looked for and what to do.
        reason: String,
    },
    /// The device cannot hold or run what was asked for.
    #[error("{what} needs {needed}, the device offers {available}")]
    Limit {
        /// What asked.
        what: String,
        /// How much it needs, with its unit.
        needed: String,
        /// How much there is.
        available: String,
    },
    /// An allocation failed.
    #[error("out of device memory while allocating {what} ({bytes} bytes)")]
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// How much.
        bytes: u64,
    },
    /// The device is gone; everything on it with it.
    #[error("the device was lost: {0}")]
    DeviceLost(String),
    /// A kernel of this device disagrees with its CPU reference.
    #[error(
        "self-test of `{kernel}` on this device failed: off by {difference:e}, at most {tolerance:e} is allowed; the device or its driver computes wrongly"
    )]
    SelfTest {
        /// The kernel.
        kernel: String,
        /// Largest difference.
        difference: f32,
        /// What is allowed.
        tolerance: f32,
    },
    /// This backend has no implementation of something.
    #[error("the {backend} backend does not support {what}")]
    Unsupported {
        /// The backend.
        backend: &'static str,
        /// What it lacks.
        what: String,
    },
    /// The driver refused something that should have worked.
    #[error("{backend}: {message}")]
    Driver {
        /// The backend.
        backend: &'static str,
        /// The driver's words.
        message: String,
    },
    /// A call that contradicts an earlier one: a fault of the caller.
    #[error("misuse of a backend: {0}")]
    Misuse(String),
}

impl From<NotQuantised> for BackendError {
    fn from(error: NotQuantised) -> Self {
        Self::Misuse(error.to_string())
    }
}

/// Result of backend calls.
pub type Result<T, E = BackendError> = std::result::Result<T, E>;

/// Time that a kernel took, by the device's own clock.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct KernelTime {
    /// Rows of the program that starts it.
    pub rows: usize,
    /// Names of the ops that it runs.
    pub op: &'static str,
    /// Its own name.
    pub kernel: &'static str,
    /// How often it was started.
    pub starts: u64,
    /// Of all starts together.
    pub seconds: f64,
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Plain CPU.
    Cpu,
    /// wgpu: browsers, Vulkan, Metal, D3D12.
    WebGpu,
    /// The CUDA driver.
    Cuda,
}

impl BackendKind {
    /// `cpu`, `webgpu`, `cuda`
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::WebGpu => "webgpu",
            Self::Cuda => "cuda",
        }
    }
}

/// What a backend runs on.
#[derive(Clone, Debug)]
pub struct BackendInfo {
    /// Which backend.
    pub kind: BackendKind,
    /// The adapter's name.
    pub adapter: String,
    /// Driver and version, as far as known.
    pub driver: String,
    /// A GPU that is really a CPU.
    pub software: bool,
    /// Arithmetic in f16 is there and used.
    pub f16: bool,
    /// Subgroup operations are there and used.
    pub subgroups: bool,
    /// Lanes of the smallest subgroup; of no meaning without subgroups.
    pub least_subgroup: u32,
    /// Lanes of the largest one.
    pub most_subgroup: u32,
    /// Forms of the kernels that have several, where the backend chooses: see
    /// [`Form`](webgpu::Form).
    pub forms: Option<String>,
    /// How these came to be chosen.
    pub forms_from: Option<FormsFrom>,
    /// What is not as it should be on this device, and what was done instead.
    pub notice: Option<String>,
    /// Largest piece of memory one kernel may bind, in bytes.
    pub max_binding: u64,
    /// Bytes of memory that are free, where the device tells: graphics drivers and browsers do not.
    pub memory: Option<u64>,
}

/// How the forms of kernels came to be chosen: all of them, or those that were not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FormsFrom {
    /// By what the device can run: nothing was measured.
    Unmeasured,
    /// All were given.
    Given,
    /// By measuring them on the model, when it was loaded.
    Measured,
    /// By what was measured before, on the same device for the same shapes: see [`FormStore`](webgpu::FormStore).
    Kept,
}

impl FormsFrom {
    /// `unmeasured`, `given`, `measured`, `kept`
    pub fn name(self) -> &'static str {
        match self {
            Self::Unmeasured => "unmeasured",
            Self::Given => "given",
            Self::Measured => "measured",
            Self::Kept => "kept",
        }
    }
}

/// For which sizes a graph is compiled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramSpec {
    /// Most rows of a step.
    pub rows: usize,
    /// Most rows of logits.
    pub outputs: usize,
    /// Values that can be read after a step, besides the logits.
    pub keep: BTreeSet<ValueId>,
}

impl ProgramSpec {
    /// Room for so many rows and outputs, and nothing kept.
    pub fn new(rows: usize, outputs: usize) -> Self {
        Self { rows, outputs, keep: BTreeSet::new() }
    }
}

/// Index of a compiled program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(pub u32);

/// A step under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Parts of a slot's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// All of it.
    All,
    /// All but the rows in pages.
    OutsidePages,
}

/// Index of a block, see [`Backend::save_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId(pub u32);

/// Counts since the backend was made. Asserted in tests, reported by `bench`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Steps run.
    pub steps: u64,
    /// Kernels started.
    pub dispatches: u64,
    /// Command buffers submitted.
    pub submits: u64,
    /// Device objects (buffers, bind groups, pipelines) made.
    pub objects: u64,
    /// Bytes the host wrote to the device during steps.
    pub bytes_written: u64,
    /// Bytes read back during steps.
    pub bytes_read: u64,
    /// Bytes copied on the device: into blocks, out of them, and from page to page.
    pub bytes_copied: u64,
    /// Forms of kernels timed to choose among them. Nothing else of a measurement is counted.
    pub forms_timed: u64,
}

/// A place to run graphs.
pub trait Backend: WeightSink<Error = BackendError> {
    /// What it runs on.
    fn info(&self) -> &BackendInfo;

    /// Whether it stores weights in the quantised formats.
    fn takes_quantised(&self) -> bool {
        true
    }

    /// Makes room for all slots; every slot is empty (zeros) afterwards.
    fn allocate(&mut self, layout: &StateLayout) -> Result<()>;

    /// Compiles a graph whose weights are there and whose state is allocated.
    fn compile(&mut self, graph: &Graph, spec: &ProgramSpec) -> Result<ProgramId>;

    /// Tells which pages a slot holds, in order.
    fn set_pages(&mut self, slot: SlotId, pages: &[u32]) -> Result<()>;

    /// Makes a slot's convolution and recurrent states equal the initial state's. It chose nothing yet, and is
    /// greedy until told otherwise.
    fn reset(&mut self, slot: SlotId) -> Result<()>;

    /// Begins a text in a slot: how it chooses tokens from now on, and the tokens that its penalties find
    /// seen. A slot that chose a token in `stop_token_ids`, or as many as it may, is *finished*: a step that feeds
    /// it its own token changes nothing that it remembers, and gives that token again.
    fn set_sampler(&mut self, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<()>;

    /// Tells which tokens a slot may choose, from the next step to the next mask or sampler: a bit a token, the lowest
    /// first, [`mask_words`](crate::state::mask_words) in all. `None`: any.
    fn set_mask(&mut self, slot: SlotId, mask: Option<&[u32]>) -> Result<()>;

    /// Chooses between kernels that compute the same, by measuring them on a model whose weights are there and whose memory
    /// is allocated. Nothing that a slot remembers changes.
    fn choose_forms<'a>(&'a mut self, _graph: &'a Graph) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    /// Enqueues a step and returns at once. The table must fit the program.
    fn step(&mut self, program: ProgramId, table: &StepTable) -> Result<Ticket>;

    /// The token chosen from each output row of a step, in the table's order. The last output of a slot
    /// chooses as its [`Sampler`] says, and its token stays in the slot; those before are greedy, unless the slot
    /// [verifies](Self::set_verifying). Where a row is
    /// [`unusable`](crate::state::unusable) it is [`NO_TOKEN`](crate::state::NO_TOKEN), and a slot whose last output
    /// is so is finished.
    fn sampled(&mut self, ticket: Ticket) -> LocalBoxFuture<'_, Result<Vec<u32>>>;

    /// Reads the first `rows` rows of a value that the program keeps (or the logits), as the last step
    /// of that program left them: `f32 [rows, width]`.
    fn read(&mut self, program: ProgramId, value: ValueId, rows: usize) -> LocalBoxFuture<'_, Result<Vec<f32>>>;

    /// Writes an input of the graph: `f32 [rows, width]`.
    fn write(&mut self, program: ProgramId, value: ValueId, data: &[f32]) -> Result<()>;

    /// Waits until the device has done everything so far, and tells what failed of it.
    fn settle(&mut self) -> LocalBoxFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    /// Copies a slot's memory out, with its sampler; `position` is the slot's next position.
    fn snapshot(&mut self, slot: SlotId, position: usize) -> LocalBoxFuture<'_, Result<SlotState>>;

    /// Puts a memory into a slot whose pages are set. Pinned rows are written too. The slot goes on choosing as the
    /// memory's sampler says.
    fn restore(&mut self, slot: SlotId, state: &SlotState) -> Result<()> {
        self.restore_parts(slot, state, Parts::All)
    }

    /// The same for a memory that may lack the rows in pages, where the slot has those already.
    fn restore_parts(&mut self, slot: SlotId, state: &SlotState, parts: Parts) -> Result<()>;

    /// Copies what a slot remembers outside its pages into a block on the device:
    /// [`StateLayout::block_bytes`](crate::state::StateLayout::block_bytes), enqueued behind the steps so far. Its
    /// sampler is no part of it.
    fn save_block(&mut self, slot: SlotId) -> Result<BlockId>;

    /// Makes a slot, whose pages are set, remember what a block holds. It chose nothing yet, and is greedy until told
    /// otherwise.
    fn load_block(&mut self, slot: SlotId, block: BlockId) -> Result<()>;

    /// Makes a slot remember again what it did when the block was saved from it. How it chooses tokens, and its pages, stay.
    fn rewind(&mut self, slot: SlotId, block: BlockId) -> Result<()> {
        let _ = (slot, block);
        Err(no_speculation(self.info().kind))
    }

    /// Whether the rows of a slot that give logits choose a token each, as its sampler says, as if those before them had been
    /// chosen: the draws go on from row to row. Then the slot's record stays as it is until
    /// [`set_chosen`](Self::set_chosen). Off until told, and after every [`set_sampler`](Self::set_sampler). Penalties do not
    /// go on from row to row.
    fn set_verifying(&mut self, slot: SlotId, verifying: bool) -> Result<()> {
        let _ = (slot, verifying);
        Err(no_speculation(self.info().kind))
    }

    /// Tells a slot how many tokens it has chosen since its sampler was set, the last of them, and whether it is finished.
    fn set_chosen(&mut self, slot: SlotId, chosen: u32, last: u32, finished: bool) -> Result<()> {
        let _ = (slot, chosen, last, finished);
        Err(no_speculation(self.info().kind))
    }

    /// Copies some rows of a value that a program keeps, as its last step left them, to the first rows of another program's
    /// input, on the device. Programs may share their buffers, so this comes between the steps of the two, and no other
    /// step does.
    fn copy_rows(&mut self, from: (ProgramId, ValueId), rows: Range<usize>, to: (ProgramId, ValueId)) -> Result<()> {
        let _ = (from, rows, to);
        Err(no_speculation(self.info().kind))
    }

    /// Whether it verifies drafts: it has [`rewind`](Self::rewind), [`set_verifying`](Self::set_verifying),
    /// [`set_chosen`](Self::set_chosen) and [`copy_rows`](Self::copy_rows), and the draft's ops.
    fn speculates(&self) -> bool {
        false
    }

    /// Ends a block. Its id may be given again.
    fn free_block(&mut self, block: BlockId);

    /// Copies a block out, with the rows of `positions` in these pages; `positions.end` is the next position of the
    /// slot that was saved. Pinned rows come with position 0.
    fn snapshot_block<'a>(
        &'a mut self,
        block: BlockId,
        pages: &'a [u32],
        positions: Range<usize>,
    ) -> LocalBoxFuture<'a, Result<SlotState>>;

    /// Copies the rows of one page to another one, in the pools of every global attention.
    fn copy_page(&mut self, from: u32, to: u32) -> Result<()>;

    /// Counts so far.
    fn counters(&self) -> Counters;

    /// Device memory in use, in bytes, as the driver's allocator reports it; `None` where it does not.
    fn device_bytes(&self) -> Option<u64>;

    /// Device objects (buffers, bind groups, pipelines, ...) that are alive, as the driver's layer counts
    /// them; `None` where it does not.
    fn device_objects(&self) -> Option<u64> {
        None
    }

    /// Time of each kernel since the last call, the longest first; empty where the backend does not measure it.
    fn kernel_times(&mut self) -> LocalBoxFuture<'_, Result<Vec<KernelTime>>> {
        Box::pin(ready(Ok(vec![])))
    }

    /// Kernels that one step of a program starts, by op name, in order: for `bench` and for tests.
    fn dispatches(&self, program: ProgramId) -> Vec<String>;
}

/// The error of a backend that verifies no drafts.
pub(crate) fn no_speculation(kind: BackendKind) -> BackendError {
    BackendError::Unsupported { backend: kind.name(), what: "speculation yet; load the model without it".into() }
}

/// How keys and values are stored when the user does not say.
pub const DEFAULT_KV_FORMAT: KvFormat = KvFormat::F32;
