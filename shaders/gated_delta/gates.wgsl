// gated_delta, before everything else: of each row and value head the logarithm of its decay and how much of
// the error it corrects,
//   g = a[h] softplus(dt[t, h] + dt_bias[h]) <= 0,   B = sigmoid(beta[t, h]).
// Made once, because WebGPU promises eight storage buffers a kernel and the rule reads nine.
//
// Tiling: one invocation for one head of one row. Barriers: none.
// Source: Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464, section 3.4.
@group(0) @binding(2) var<storage, read> beta: array<f32>;               // [rows, beta_pitch]
@group(0) @binding(3) var<storage, read> dt: array<f32>;                 // [rows, dt_pitch]
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
@group(0) @binding(5) var<storage, read_write> scratch: array<f32>;      // see gated_delta/params.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / params.heads;
    let head = index % params.heads;
    if row >= row_count() { return; }
    let raw = dt[row * params.dt_pitch + params.dt_offset + head] + vectors[params.dt_bias_at + head];
    scratch[params.gates_at + 2u * index] = vectors[params.a_at + head] * softplus(raw);
    scratch[params.gates_at + 2u * index + 1u] = sigmoid(beta[row * params.beta_pitch + params.beta_offset + head]);
}
