// RMS norm and rope of every head of queries and keys, and kv_append, in one: for few rows (decode).
//   y = x / sqrt(mean x^2 + eps) * weight; then the first 2 * pairs columns are rotated
// Queries and keys go to one value, for attention; keys and values go to the pools as well. Why they may before
// attention reads: append.wgsl.
//
// Tiling: one workgroup for one head of one row, the queries' first, then the keys'; the last ones for 64 pairs of
// values each. A lane has two neighbouring columns at a time. It norms the numbers that its own are paired with a
// second time, rather than wait for another lane. Barriers: one reduction. Limits: 8 storage buffers; heads of
// even width.
struct Params {
    heads: u32,         // of queries
    key_heads: u32,
    value_pairs: u32,   // columns of values / 2
    head_dim: u32,      // columns of a head
    pairs: u32,         // rotated pairs of a head
    pitch: u32,
    offset: u32,        // of the queries, and behind them the keys
    value_offset: u32,
    out_pitch: u32,
    norm_at: u32,       // in `vectors`: [heads and key heads, head_dim]
    norm_pitch: u32,    // 0: all heads have the same
    pinned: u32,
    ring: u32,          // rows of a slot's ring; 0: pages
    pages_per_slot: u32,
    eps: f32,
}
const LANES = 64u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> pages: array<u32>;              // [slots, pages_per_slot]
@group(0) @binding(5) var<storage, read> x: array<f32>;                  // [rows, pitch]
@group(0) @binding(6) var<storage, read> angles: array<vec2<f32>>;       // [context, pairs] cos, sin
@group(0) @binding(7) var<storage, read> vectors: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

// The normed and rotated number at `column` of the head that begins at `at`.
fn rotated(at: u32, norm_at: u32, column: u32, position: u32, factor: f32) -> f32 {
    let value = x[at + column] * factor * vectors[norm_at + column];
    if column >= 2u * params.pairs { return value; }
    let first = column < params.pairs;
    let pair = select(column - params.pairs, column, first);
    let partner = select(pair, column + params.pairs, first);
    let other = x[at + partner] * factor * vectors[norm_at + partner];
    let angle = angles[position * params.pairs + pair];
    return value * angle.x + select(other, -other, first) * angle.y;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let heads = params.heads + params.key_heads;
    let each = heads + (params.value_pairs + LANES - 1u) / LANES;
    let row = index / each;
    let which = index % each;
    if row >= row_count() { return; }
    let entry = row_at(row);
    let pool_row = kv_row(entry.y, entry.z);
    // A span without rows is of a finished slot.
    let kept = span_at(entry.w).w > 0u;
    if which >= heads {
        let pair = (which - heads) * LANES + lane;
        // Not by returning: Tint wants all lanes of a workgroup to leave together where others meet a barrier.
        if pair < params.value_pairs && kept {
            let at = row * params.pitch + params.value_offset + 2u * pair;
            store_values(pool_row * params.value_pairs + pair, vec2(x[at], x[at + 1u]));
        }
        return;
    }
    let at = row * params.pitch + params.offset + which * params.head_dim;
    let norm_at = params.norm_at + which * params.norm_pitch;
    var squares = 0.0;
    for (var column = lane; column < params.head_dim; column += LANES) {
        let value = x[at + column];
        squares += value * value;
    }
    let total = reduce_sum(lane, vec4(squares, 0.0, 0.0, 0.0)).x;
    let factor = inverse_root(total / f32(params.head_dim) + params.eps);
    let to = row * params.out_pitch + which * params.head_dim;
    for (var pair = lane; pair < params.head_dim / 2u; pair += LANES) {
        let column = 2u * pair;
        let low = rotated(at, norm_at, column, entry.z, factor);
        let high = rotated(at, norm_at, column + 1u, entry.z, factor);
        out[to + column] = low;
        out[to + column + 1u] = high;
        if which >= params.heads && kept {
            store_keys((pool_row * params.key_heads + which - params.heads) * (params.head_dim / 2u) + pair, vec2(low, high));
        }
    }
}
