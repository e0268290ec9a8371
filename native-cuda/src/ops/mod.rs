//! The parameters of every op's kernels. Each struct is `repr(C)` and mirrors the struct in its `.cu` file
//! field by field, which a test compares; each `launch` chooses kernel, grid and block for a program's capacity. Addresses are of
//! [`Buffer`](crate::Buffer)s, plus an offset.

#[macro_use]
mod parameters;

mod activation;
mod add;
mod attention;
mod conv;
mod conv_append;
mod embed;
mod gate;
mod gated_delta;
mod gather;
mod kv_append;
mod linear;
#[cfg(test)]
mod mirror;
mod moe_apply;
mod moe_route;
mod norm;
mod rope;
mod sample;
mod selective_scan;
mod ssd_scan;

pub use activation::Activation;
pub use add::Add;
pub use attention::Attention;
pub use conv::Conv;
pub use conv_append::ConvAppend;
pub use embed::Embed;
pub use gate::Gate;
pub use gated_delta::GatedDelta;
pub use gather::Gather;
pub use kv_append::KvAppend;
pub use linear::Linear;
pub use moe_apply::MoeApply;
pub use moe_route::MoeRoute;
pub use norm::{Norm, NormKind};
pub use rope::Rope;
pub use sample::Sample;
pub use selective_scan::SelectiveScan;
pub use ssd_scan::SsdScan;

pub use crate::constants::NO_WINDOW;
use crate::constants::{
    COUNT_OUTPUTS, COUNT_ROWS, FUNCTION_IDENTITY, FUNCTION_SIGMOID, FUNCTION_SILU, FUNCTION_SQUARED_RELU,
};
use crate::error::{CudaError, Result};
use crate::launch::MOST_ROWS_OF_BLOCKS;

parameters! {
    /// Columns of a value: `f32 [rows, width]`, rows `pitch` numbers apart. `View` of the prelude.
    pub struct View {
        /// Of the first row's first column.
        pub address: u64,
        /// Numbers from row to row.
        pub pitch: u32,
        /// Columns.
        pub width: u32,
    }
}

/// The step table's address. `Step` of the prelude.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Step(pub u64);

/// Which of the step table's counts an op's rows are: its word in the header.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// The rows of the step.
    Rows = COUNT_ROWS,
    /// The rows whose logits are wanted.
    Outputs = COUNT_OUTPUTS,
}

/// A pointwise function: `apply` of the prelude.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `x`
    Identity = FUNCTION_IDENTITY,
    /// `x / (1 + exp(-x))`
    Silu = FUNCTION_SILU,
    /// `max(x, 0)^2`
    SquaredRelu = FUNCTION_SQUARED_RELU,
    /// `1 / (1 + exp(-x))`
    Sigmoid = FUNCTION_SIGMOID,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
}

parameters! {
    /// Where the rows of one KV state lie in its pools. `KvRows` of the prelude.
    pub struct KvRows {
        /// Of the page tables: `u32 [slots + 1, pages_per_slot]`.
        pub pages: u64,
        /// Length of a slot's page table.
        pub pages_per_slot: u32,
        /// Rows in front, shared by all slots.
        pub pinned: u32,
        /// Rows of a slot's ring; 0: pages.
        pub ring: u32,
    }
}

/// Threads that run in step.
const WARP: u32 = 32;

/// Threads of a block of the kernels that give each column a thread.
const COLUMN_THREADS: u32 = 256;

/// The grid of such a kernel: it strides over the rows.
fn columns_by_rows(width: u32, rows: u32) -> [u32; 2] {
    [width.div_ceil(COLUMN_THREADS), rows.min(MOST_ROWS_OF_BLOCKS)]
}

/// An error when a size exceeds what a kernel can work on.
fn at_most(kernel: &'static str, what: &'static str, got: u32, most: u32) -> Result<()> {
    if got <= most { Ok(()) } else { Err(CudaError::Limit { kernel, what, got: got.into(), most: most.into() }) }
}
