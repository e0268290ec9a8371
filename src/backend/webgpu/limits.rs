//! Sizes that several parts of the backend agree on: rows of a kernel, tiles, workgroups.

use crate::backend::ProgramSpec;
use crate::graph::Rows;

/// Up to so many rows, a kernel reads every weight once and keeps all rows in registers: a product of the matrix and
/// a few vectors. Beyond, it is one of two matrices, tile by tile.
pub(super) const MATVEC_ROWS: usize = 8;
/// Lanes of the kernels that take one element an invocation.
pub(super) const ELEMENTS: usize = 64;
/// Rows of one workgroup of `linear/tile.wgsl`; pairs of rows and experts of one of `moe_apply/tile.wgsl`.
pub(super) const TILE_ROWS: usize = 32;
/// Outputs of one workgroup of either.
pub(super) const TILE_OUTS: usize = 64;

/// Rows that a program's buffers hold: few rows come in powers of two, as their kernels do.
pub(super) fn capacity(spec: &ProgramSpec, rows: Rows) -> usize {
    let rows = match rows {
        Rows::All => spec.rows,
        Rows::Outputs => spec.outputs,
    };
    if rows <= MATVEC_ROWS { rows.next_power_of_two() } else { rows }
}

/// So many workgroups, wrapped into two dimensions: one holds 65535 at most.
pub(super) fn wrapped(workgroups: usize) -> [u32; 3] {
    const MOST: usize = 65535;
    let x = workgroups.clamp(1, MOST);
    [x as u32, workgroups.div_ceil(x).max(1) as u32, 1]
}
