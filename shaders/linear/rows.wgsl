// linear for few rows (decode): out[r, o] = sum_i weight[o, i] x[r, i] + bias[o], and where an addition
// follows, out = addend + addend_scale * that.
//
// x is either a value as it is, or made on the way in from what the op before would have read: see
// shared/input_*.wgsl. What that recomputes in every workgroup is small beside the weights.
// Tiling: one workgroup makes the OUTS outputs of a quad for all ROWS rows of the program. Lanes stride over the
// inputs, eight at a time, so that a weight is read once, in 16-byte words, whatever the rows.
// Barriers: one reduction a row, over the OUTS sums together; those of the input.
// Limits: ROWS <= 8 (registers). A weight of several segments is one dispatch a segment.
const LANES = 64u;
const OUTS = 4u;
@group(0) @binding(3) var<storage, read> vectors: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]
@group(0) @binding(5) var<storage, read> addend: array<f32>;             // [rows, addend_pitch]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    prepare(lane, index);
    var sums: array<vec4<f32>, ROWS>;
    for (var chunk = lane; chunk < params.chunks; chunk += LANES) {
        let weights = load_quad(index, params.chunks, chunk);
        for (var row = 0u; row < ROWS; row++) { sums[row] += quad_dot(weights, load_x(row, chunk)); }
    }
    for (var row = 0u; row < ROWS; row++) {
        let total = reduce_sum(lane, sums[row]);
        let output = OUTS * index + lane;
        if lane < OUTS && output < params.rows {
            var value = total[lane];
            let column = params.out_offset + output;
            if params.bias_at != NONE { value += vectors[params.bias_at + column]; }
            if params.addend_pitch > 0u {
                value = addend[row * params.addend_pitch + params.addend_offset + column] + params.addend_scale * value;
            }
            out[row * params.out_pitch + column] = value;
        }
    }
}
