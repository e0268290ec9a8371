// RMS norm of every head of queries and keys, then rope of both, in one: for few rows (decode).
//   y = x / sqrt(mean x^2 + eps) * weight; then the first 2 * pairs columns are rotated
//
// Tiling: one workgroup for one head of one row, first the queries', then the keys'. A lane norms the number
// that its own is paired with a second time, rather than wait for another lane. Barriers: one reduction.
struct Params {
    heads: u32,         // of queries
    key_heads: u32,
    head: u32,          // columns of a head
    pairs: u32,         // rotated pairs of a head
    pitch: u32,
    query_offset: u32,
    key_offset: u32,
    query_pitch: u32,   // of the results
    key_pitch: u32,
    query_norm_at: u32, // in `vectors`: [head]
    key_norm_at: u32,
    eps: f32,
}
const LANES = 64u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, pitch]
@group(0) @binding(3) var<storage, read> vectors: array<f32>;
@group(0) @binding(4) var<storage, read> angles: array<vec2<f32>>;       // [context, pairs] cos, sin
@group(0) @binding(5) var<storage, read_write> queries: array<f32>;      // [rows, query_pitch]
@group(0) @binding(6) var<storage, read_write> keys: array<f32>;         // [rows, key_pitch]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let row = index / (params.heads + params.key_heads);
    let which = index % (params.heads + params.key_heads);
    if row >= row_count() { return; }
    let is_key = which >= params.heads;
    let head = select(which, which - params.heads, is_key) * params.head;
    let at = row * params.pitch + select(params.query_offset, params.key_offset, is_key) + head;
    let norm_at = select(params.query_norm_at, params.key_norm_at, is_key);
    var squares = 0.0;
    for (var column = lane; column < params.head; column += LANES) {
        let value = x[at + column];
        squares += value * value;
    }
    let total = reduce_sum(lane, vec4(squares, 0.0, 0.0, 0.0)).x;
    let factor = inverseSqrt(total / f32(params.head) + params.eps);
    let position = row_at(row).z;
    for (var column = lane; column < params.head; column += LANES) {
        var value = x[at + column] * factor * vectors[norm_at + column];
        if column < 2u * params.pairs {
            let first = column < params.pairs;
            let pair = select(column - params.pairs, column, first);
            let partner = select(pair, column + params.pairs, first);
            let other = x[at + partner] * factor * vectors[norm_at + partner];
            let angle = angles[position * params.pairs + pair];
            value = value * angle.x + select(other, -other, first) * angle.y;
        }
        if is_key {
            keys[row * params.key_pitch + head + column] = value;
        } else {
            queries[row * params.query_pitch + head + column] = value;
        }
    }
}
