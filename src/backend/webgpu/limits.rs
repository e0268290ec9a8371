//! Rows of kernels and of buffers, and slices of keys, on which several parts of the backend agree.

use super::kernels::{linear_pair, linear_rows, ssd_scan};
use crate::backend::ProgramSpec;
use crate::graph::Rows;
use crate::state::RING_SLACK;

/// Up to so many rows, a kernel reads every weight once and keeps all rows in registers: a product of the matrix and
/// a few vectors. Beyond, it is one of two matrices, tile by tile.
pub(super) const MATVEC_ROWS: usize = linear_rows::plain::MOST_ROWS;
const _: () = assert!(MATVEC_ROWS == linear_pair::plain::MOST_ROWS && MATVEC_ROWS == ssd_scan::decode::MOST_ROWS);
// A fused kernel may write to a ring what its own rows still read around.
const _: () = assert!(MATVEC_ROWS <= RING_SLACK);

/// Most slices of the keys that a few rows of attention are cut into.
pub(super) const MOST_SLICES: usize = 16;

/// Rows that a program's buffers hold: few rows come in powers of two, as their kernels do.
pub(super) fn capacity(spec: &ProgramSpec, rows: Rows) -> usize {
    let rows = match rows {
        Rows::All => spec.rows,
        Rows::Outputs => spec.outputs,
    };
    if rows <= MATVEC_ROWS { rows.next_power_of_two() } else { rows }
}
