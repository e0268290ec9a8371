// ssd_scan in chunks, 1 of 3: what each chunk adds to the state by itself,
//   S[n, p] = sum_l exp(A_last - A_l) D_l b[l, n] x[l, p],   A_l = sum of D a up to row l,
// a product of two small matrices; and the chunk's decay exp(A_last).
//
// Tiling: one workgroup for one head of one chunk; lanes stride over [N, P], P fastest.
// Barriers: three, for the steps. Source: Dao and Gu 2024, arXiv 2405.21060, section 6, step 2.
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
@group(0) @binding(5) var<storage, read> vectors: array<f32>;
@group(0) @binding(6) var<storage, read_write> chunk_state: array<f32>;  // [chunks, heads, N, P], then decays [chunks, heads]

var<workgroup> factors: array<f32, CHUNK_ROWS>;

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
    if chunk.y == 0u { return; }
    let last = sums[chunk.y - 1u];
    if lane < chunk.y { factors[lane] = exp(last - sums[lane]) * deltas[lane]; }
    workgroupBarrier();
    let b_from = chunk.x * params.b_pitch + params.b_offset + head / (params.heads / params.groups) * params.states;
    let x_from = chunk.x * params.x_pitch + params.x_offset + head * params.columns;
    let to = which * params.chunk_states + head * params.states * params.columns;
    for (var i = lane; i < params.states * params.columns; i += LANES) {
        let n = i / params.columns;
        let p = i % params.columns;
        var sum = 0.0;
        for (var l = 0u; l < chunk.y; l++) {
            sum += factors[l] * b[b_from + l * params.b_pitch + n] * x[x_from + l * params.x_pitch + p];
        }
        chunk_state[to + i] = sum;
    }
    if lane == 0u { chunk_state[params.decays_at + which * params.heads + head] = exp(last); }
}
