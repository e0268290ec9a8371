// rope of queries and keys, and kv_append, in one: for few rows (decode). Rotated queries and keys go
// to values of their own, for attention; keys and values go to the pools as well.
//
// That the pools are written before attention reads them is harmless: attention takes the span's own
// keys from the values, and a ring has room for a span of few rows besides its window.
// Tiling: one invocation for two neighbouring columns of one row, first the queries', then the keys',
// then the values'. Limits: 8 storage buffers; heads of even width.
struct Params {
    query_pairs: u32,   // columns / 2
    key_pairs: u32,
    value_pairs: u32,
    head_dim: u32,      // columns of a head of queries or keys
    pairs: u32,         // rotated pairs of a head
    pitch: u32,
    query_offset: u32,
    key_offset: u32,
    value_offset: u32,
    query_pitch: u32,   // of the results
    key_pitch: u32,
    pinned: u32,
    ring: u32,          // rows of a slot's ring; 0: pages
    pages_per_slot: u32,
    beta: f32,          // of the queries' growth; 0: there is none
    original: u32,      // positions of the context behind which it begins, at least 1
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> pages: array<u32>;              // [slots, pages_per_slot]
@group(0) @binding(5) var<storage, read> x: array<f32>;                  // [rows, pitch]
@group(0) @binding(6) var<storage, read> angles: array<vec2<f32>>;       // [context, pairs] cos, sin
@group(0) @binding(7) var<storage, read_write> queries: array<f32>;      // [rows, query_pitch]
@group(0) @binding(8) var<storage, read_write> keys: array<f32>;         // [rows, key_pitch]

// The rotated number at `column` of the heads that begin at `at`.
fn rotated(at: u32, column: u32, position: u32) -> f32 {
    let within = column % params.head_dim;
    let value = x[at + column];
    if within >= 2u * params.pairs { return value; }
    let angle = angles[position * params.pairs + within % params.pairs];
    if within < params.pairs { return value * angle.x - x[at + column + params.pairs] * angle.y; }
    return value * angle.x + x[at + column - params.pairs] * angle.y;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let each = params.query_pairs + params.key_pairs + params.value_pairs;
    let row = index / each;
    var pair = index % each;
    if row >= row_count() { return; }
    let entry = row_at(row);
    let begin = row * params.pitch;
    if pair < params.query_pairs {
        let at = begin + params.query_offset;
        let growth = growth_at(entry.z);
        queries[row * params.query_pitch + 2u * pair] = rotated(at, 2u * pair, entry.z) * growth;
        queries[row * params.query_pitch + 2u * pair + 1u] = rotated(at, 2u * pair + 1u, entry.z) * growth;
        return;
    }
    pair -= params.query_pairs;
    // A span without rows is of a finished slot.
    let kept = span_at(entry.w).w > 0u;
    let pool_row = kv_row(entry.y, entry.z);
    if pair < params.key_pairs {
        let at = begin + params.key_offset;
        let key = vec2(rotated(at, 2u * pair, entry.z), rotated(at, 2u * pair + 1u, entry.z));
        keys[row * params.key_pitch + 2u * pair] = key.x;
        keys[row * params.key_pitch + 2u * pair + 1u] = key.y;
        if kept { store_keys(pool_row * params.key_pairs + pair, key); }
        return;
    }
    pair -= params.key_pairs;
    let at = begin + params.value_offset + 2u * pair;
    if kept { store_values(pool_row * params.value_pairs + pair, vec2(x[at], x[at + 1u])); }
}
