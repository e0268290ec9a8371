//! Products of matrices whose rows are the vectors that are multiplied: `x[r] . weights[o]`.
//!
//! Computed in tiles of [`TILE_ROWS`] by [`TILE_OUTPUTS`] products: sixteen registers hold their sums,
//! the numbers of three rows of the weight and those of one row of `x`.

use super::{LANES, Lanes};

/// Rows of `x` in a tile.
const TILE_ROWS: usize = 4;
/// Rows of the weight in a tile.
pub(in crate::backend::cpu) const TILE_OUTPUTS: usize = 3;

/// Hands `x(r) . weights[o]` to `store(r, o, ..)` for `r` below `rows` and all rows of `weights`, which
/// are `columns` wide, like those of `x`.
#[inline(always)]
pub(in crate::backend::cpu) fn multiply<'a, V: Lanes>(
    rows: usize,
    columns: usize,
    x: impl Fn(usize) -> &'a [f32],
    weights: &[f32],
    mut store: impl FnMut(usize, usize, f32),
) {
    for from in (0..rows).step_by(TILE_ROWS) {
        match rows - from {
            1 => strip::<V, 1>(from, columns, &x, weights, &mut store),
            2 => strip::<V, 2>(from, columns, &x, weights, &mut store),
            3 => strip::<V, 3>(from, columns, &x, weights, &mut store),
            _ => strip::<V, TILE_ROWS>(from, columns, &x, weights, &mut store),
        }
    }
}

/// `ROWS` rows of `x` times all rows of `weights`.
#[inline(always)]
fn strip<'a, V: Lanes, const ROWS: usize>(
    from: usize,
    columns: usize,
    x: &impl Fn(usize) -> &'a [f32],
    weights: &[f32],
    store: &mut impl FnMut(usize, usize, f32),
) {
    let x: [&[f32]; ROWS] = std::array::from_fn(|r| &x(from + r)[..columns]);
    let tiles = weights.chunks_exact(TILE_OUTPUTS * columns);
    let rest = tiles.remainder();
    let mut next = 0;
    for weights in tiles {
        tile::<V, ROWS, TILE_OUTPUTS>(x, weights, |r, o, sum| store(from + r, next + o, sum));
        next += TILE_OUTPUTS;
    }
    for (o, weights) in (next..).zip(rest.chunks_exact(columns)) {
        tile::<V, ROWS, 1>(x, weights, |r, _, sum| store(from + r, o, sum));
    }
}

/// `ROWS` rows of `x` times `OUTPUTS` rows of `weights`.
#[inline(always)]
fn tile<V: Lanes, const ROWS: usize, const OUTPUTS: usize>(
    x: [&[f32]; ROWS],
    weights: &[f32],
    mut store: impl FnMut(usize, usize, f32),
) {
    let columns = x[0].len();
    let whole = columns / LANES;
    let w: [&[f32]; OUTPUTS] = std::array::from_fn(|o| &weights[o * columns..][..columns]);
    let x_chunks = x.map(|x| &x.as_chunks::<LANES>().0[..whole]);
    let w_chunks = w.map(|w| &w.as_chunks::<LANES>().0[..whole]);
    let mut sums = [[V::splat(0.0); ROWS]; OUTPUTS];
    for chunk in 0..whole {
        let mut w = [V::splat(0.0); OUTPUTS];
        for o in 0..OUTPUTS {
            w[o] = V::load(&w_chunks[o][chunk]);
        }
        for r in 0..ROWS {
            let x = V::load(&x_chunks[r][chunk]);
            for o in 0..OUTPUTS {
                sums[o][r] = w[o].mul_add(x, sums[o][r]);
            }
        }
    }
    for o in 0..OUTPUTS {
        for r in 0..ROWS {
            let rest = x[r][whole * LANES..].iter().zip(&w[o][whole * LANES..]);
            store(r, o, sums[o][r].sum() + rest.map(|(x, w)| x * w).sum::<f32>());
        }
    }
}
