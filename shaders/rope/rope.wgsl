// rope: rotates the first 2 * pairs columns of every head by the angle of the row's position; column j
// is paired with j + pairs. The other columns pass through. All are multiplied by the growth at the position.
//
// Tiling: one invocation an element. cos and sin come from a table made on the host in f64: WGSL
// promises no accuracy for large arguments. Source: Su et al. 2021, half-split pairing.
struct Params {
    width: u32,
    head_dim: u32,      // columns of a head
    pairs: u32,
    x_pitch: u32,
    x_offset: u32,
    out_pitch: u32,
    beta: f32,          // of the growth; 0: there is none
    original: u32,      // positions of the context behind which it begins, at least 1
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(3) var<storage, read> angles: array<vec2<f32>>;       // [context, pairs] cos, sin
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / params.width;
    let column = index % params.width;
    if row >= row_count() { return; }
    let begin = row * params.x_pitch + params.x_offset + column;
    let within = column % params.head_dim;
    var value = x[begin];
    if within < 2u * params.pairs {
        let angle = angles[row_at(row).z * params.pairs + within % params.pairs];
        if within < params.pairs {
            value = value * angle.x - x[begin + params.pairs] * angle.y;
        } else {
            value = value * angle.x + x[begin - params.pairs] * angle.y;
        }
    }
    out[row * params.out_pitch + column] = value * growth_at(row_at(row).z);
}
