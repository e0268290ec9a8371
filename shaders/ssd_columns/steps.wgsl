// ssd_scan in chunks by columns, 1 of 5: what the steps of one head come to over one chunk,
//   D_l = clamp(softplus(dt[l, h] + dt_bias[h])),   A_l = sum of D a up to row l,   exp(A_last - A_l) D_l,
// for the kernels behind it, and the chunk's decay exp(A_last). Rows that a chunk lacks take no step.
//
// Tiling: one workgroup for one head of one chunk, a lane a row. Barriers: two, for the sums.
// Source: Dao and Gu 2024, arXiv 2405.21060, section 6.
@group(0) @binding(2) var<storage, read> dt: array<f32>;                 // [rows, dt_pitch]
@group(0) @binding(3) var<storage, read> vectors: array<f32>;
@group(0) @binding(4) var<storage, read_write> steps: array<f32>;        // as in layout.wgsl
@group(0) @binding(5) var<storage, read_write> chunk_state: array<f32>;  // [chunks, heads, N, P], then decays [chunks, heads]

@compute @workgroup_size(CHUNK_ROWS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let which = index / params.heads;
    let head = index % params.heads;
    let chunk = load_steps(lane, head, which);
    if chunk.y == 0u { return; }
    let last = chunk.y - 1u;
    let there = lane <= last;
    let sum = sums[min(lane, last)];
    let delta = select(0.0, deltas[min(lane, last)], there);
    let at = steps_of(which, head) + lane;
    steps[at] = sum;
    steps[at + CHUNK_ROWS] = delta;
    steps[at + 2u * CHUNK_ROWS] = exp(sums[last] - sum) * delta;
    if lane == 0u { chunk_state[params.decays_at + which * params.heads + head] = exp(sums[last]); }
}
