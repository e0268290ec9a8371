// gate: out = function(gate) * x. One invocation a number, or a word of four. The gate is each.wgsl's, one for a column,
// or spread.wgsl's, one for several.
struct Params {
    width: u32,         // as pitches, offsets and the span, in Numbers
    span: u32,          // columns that a gate is multiplied with; 1: there is one for each, be it in a word
    gate_pitch: u32,
    gate_offset: u32,
    x_pitch: u32,
    x_offset: u32,
    out_pitch: u32,
    function: u32,
    outputs: u32,       // 1: the rows are outputs
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<Number>;               // [rows, x_pitch]
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
    let factor = apply(params.function, gate_of(row * params.gate_pitch + params.gate_offset, column));
    out[row * params.out_pitch + column] = factor * x[row * params.x_pitch + params.x_offset + column];
}
