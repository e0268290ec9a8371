//! The parameters of every op's kernels. Each struct is `repr(C)` and mirrors the struct in its `.cu` file
//! field by field; each `launch` chooses kernel, grid and block for a program's capacity. Addresses are of
//! [`Buffer`](crate::Buffer)s, plus an offset.

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
mod moe_apply;
mod moe_route;
mod norm;
mod rope;
mod sample;
mod selective_scan;
mod ssd_scan;

pub use activation::Activation;
pub use add::Add;
pub use attention::{Attention, NO_WINDOW};
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

use crate::error::{CudaError, Result};
use crate::launch::MOST_ROWS_OF_BLOCKS;

/// Columns of a value: `f32 [rows, width]`, rows `pitch` numbers apart. `View` of the prelude.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Of the first row's first column.
    pub address: u64,
    /// Numbers from row to row.
    pub pitch: u32,
    /// Columns.
    pub width: u32,
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
    Rows = 0,
    /// The rows whose logits are wanted.
    Outputs = 2,
}

/// A pointwise function, as `apply` of the prelude numbers it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `x`
    Identity = 0,
    /// `x / (1 + exp(-x))`
    Silu = 1,
    /// `max(x, 0)^2`
    SquaredRelu = 2,
    /// `1 / (1 + exp(-x))`
    Sigmoid = 3,
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

/// Where the rows of one KV state lie in its pools. `KvRows` of the prelude.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images;

    /// Bytes of the parameters of an op's kernels, as their PTX declares them, in every architecture.
    fn declared(op: &str) -> Vec<usize> {
        let image = images().iter().find(|image| image.op == op).expect("an image");
        let mut sizes = Vec::new();
        for line in image.ptx.iter().flat_map(|ptx| ptx.lines()).filter(|line| line.contains("_param_0[")) {
            if let Some(declaration) = line.trim().strip_prefix(".param") {
                let size = declaration.split(['[', ']']).nth(1).expect("a size in brackets");
                sizes.push(size.parse().expect("a number"));
            }
        }
        sizes
    }

    #[test]
    fn parameters_are_as_large_here_as_in_the_kernels() {
        let here = [
            ("activation", size_of::<Activation>()),
            ("add", size_of::<Add>()),
            ("attention", size_of::<Attention>()),
            ("conv", size_of::<Conv>()),
            ("conv_append", size_of::<ConvAppend>()),
            ("embed", size_of::<Embed>()),
            ("gate", size_of::<Gate>()),
            ("gated_delta", size_of::<GatedDelta>()),
            ("gather", size_of::<Gather>()),
            ("kv_append", size_of::<KvAppend>()),
            ("linear", size_of::<Linear>()),
            ("moe_apply", size_of::<MoeApply>()),
            ("moe_route", size_of::<MoeRoute>()),
            ("norm", size_of::<Norm>()),
            ("rope", size_of::<Rope>()),
            ("sample", size_of::<Sample>()),
            ("selective_scan", size_of::<SelectiveScan>()),
            ("ssd_scan", size_of::<SsdScan>()),
        ];
        assert_eq!(here.len(), images().len());
        for (op, size) in here {
            let declared = declared(op);
            assert!(!declared.is_empty(), "no kernel in the PTX of {op}");
            assert!(declared.iter().all(|&bytes| bytes == size), "{op}: {size} bytes here, {declared:?} in the PTX");
        }
    }
}
