// gather: the rows whose logits are wanted, out[o] = x[output_row(o)]. One invocation an element.
struct Params {
    width: u32,
    x_pitch: u32,
    x_offset: u32,
    out_pitch: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(3) var<storage, read_write> out: array<f32>;          // [outputs, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let output = index / params.width;
    let column = index % params.width;
    if output >= output_count() { return; }
    out[output * params.out_pitch + column] = x[output_row(output) * params.x_pitch + params.x_offset + column];
}
