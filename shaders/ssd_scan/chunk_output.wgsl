// ssd_scan in chunks, 3 of 3: the rows of the result, by two small matrix products,
//   out[l, p] = sum_{s <= l} (c_l . b_s) exp(A_l - A_s) D_s x[s, p] + exp(A_l) sum_n c[l, n] E[n, p] + d x[l, p],
// with A_l the sum of D a up to row l and E the state that the chunk begins with.
//
// Tiling: one workgroup for one head of one chunk. The masked, decayed C B^T (32 x 32) is made once in
// workgroup memory; then lanes stride over [rows, P], P fastest.
// Barriers: three. Limits: 8 storage buffers, 5 KiB of workgroup memory.
// Source: Dao and Gu 2024, arXiv 2405.21060, section 6, steps 1 and 4. Differences A_l - A_s, never
// exp(-A_s) alone, which would overflow.
struct Params {
    heads: u32,
    groups: u32,
    columns: u32,       // P, of a head
    states: u32,        // N
    x_pitch: u32,
    x_offset: u32,
    dt_pitch: u32,
    dt_offset: u32,
    b_pitch: u32,
    b_offset: u32,
    c_pitch: u32,
    c_offset: u32,
    out_pitch: u32,
    a_at: u32,          // in `vectors`: [heads], negative
    d_at: u32,          // in `vectors`: [heads]
    dt_bias_at: u32,    // in `vectors`: [heads]
    chunks_at: u32,
    chunk_states: u32,  // numbers of one chunk's states
    decays_at: u32,     // in `chunk_state`
    dt_low: f32,
    dt_high: f32,
}
const LANES = 256u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(3) var<storage, read> dt: array<f32>;                 // [rows, dt_pitch]
@group(0) @binding(4) var<storage, read> b: array<f32>;                  // [rows, b_pitch]
@group(0) @binding(5) var<storage, read> c: array<f32>;                  // [rows, c_pitch]
@group(0) @binding(6) var<storage, read> vectors: array<f32>;
@group(0) @binding(7) var<storage, read> chunk_state: array<f32>;        // [chunks, heads, N, P]
@group(0) @binding(8) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

var<workgroup> mixing: array<f32, CHUNK_ROWS * CHUNK_ROWS>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let which = index / params.heads;
    let head = index % params.heads;
    // An unused workgroup works on no rows: all lanes must reach the barriers.
    var chunk = chunk_at(which);
    if which >= long_chunk_count() { chunk = vec4(0u); }
    load_steps(lane, head, chunk);
    let group = head / (params.heads / params.groups) * params.states;
    let b_from = chunk.x * params.b_pitch + params.b_offset + group;
    let c_from = chunk.x * params.c_pitch + params.c_offset + group;
    let x_from = chunk.x * params.x_pitch + params.x_offset + head * params.columns;
    for (var i = lane; i < CHUNK_ROWS * CHUNK_ROWS; i += LANES) {
        let l = i / CHUNK_ROWS;
        let s = i % CHUNK_ROWS;
        if s > l || l >= chunk.y { continue; }
        var product = 0.0;
        for (var n = 0u; n < params.states; n++) {
            product += c[c_from + l * params.c_pitch + n] * b[b_from + s * params.b_pitch + n];
        }
        mixing[i] = product * exp(sums[l] - sums[s]) * deltas[s];
    }
    workgroupBarrier();
    let e_from = which * params.chunk_states + head * params.states * params.columns;
    for (var i = lane; i < chunk.y * params.columns; i += LANES) {
        let l = i / params.columns;
        let p = i % params.columns;
        var carried = 0.0;
        for (var n = 0u; n < params.states; n++) {
            carried += c[c_from + l * params.c_pitch + n] * chunk_state[e_from + n * params.columns + p];
        }
        var sum = vectors[params.d_at + head] * x[x_from + l * params.x_pitch + p] + exp(sums[l]) * carried;
        for (var s = 0u; s <= l; s++) { sum += mixing[l * CHUNK_ROWS + s] * x[x_from + s * params.x_pitch + p]; }
        out[(chunk.x + l) * params.out_pitch + head * params.columns + p] = sum;
    }
}
