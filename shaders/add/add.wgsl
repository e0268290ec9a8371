// add: out = a + scale * b. One invocation a number, or a word of four.
struct Params {
    width: u32,         // as pitches and offsets, in Numbers
    a_pitch: u32,
    a_offset: u32,
    b_pitch: u32,
    b_offset: u32,
    out_pitch: u32,
    outputs: u32,       // 1: the rows are outputs
    scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> a: array<Number>;               // [rows, a_pitch]
@group(0) @binding(3) var<storage, read> b: array<Number>;               // [rows, b_pitch]
@group(0) @binding(4) var<storage, read_write> out: array<Number>;       // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / params.width;
    let column = index % params.width;
    if row >= rows_in_use(params.outputs) { return; }
    let left = a[row * params.a_pitch + params.a_offset + column];
    out[row * params.out_pitch + column] = left + params.scale * b[row * params.b_pitch + params.b_offset + column];
}
