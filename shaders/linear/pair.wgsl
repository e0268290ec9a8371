// Two linear layers whose results are added, for few rows (decode):
//   out[r, o] = sum_i weight[o, i] x[r, i] + scale * sum_j second_weight[o, j] y[r, j]
//
// x is either a value as it is, or made on the way in by a gate: see shared/input_plain.wgsl and
// shared/input_gate.wgsl. y is a value as it is. Neither layer has a bias.
// Tiling: as in rows.wgsl, one workgroup makes the OUTS outputs of a quad for all ROWS rows of the program; its lanes
// stride over the inputs of the one matrix, then over those of the other, eight at a time.
// Barriers: one reduction a row, over the OUTS sums together.
// Limits: ROWS <= 8 (registers); both matrices in one format; 7 storage buffers. Where a segment of either
// matrix ends, a dispatch ends.
const LANES = 64u;
const OUTS = 4u;

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
        let weights = load_quad(params.quad + index, params.chunks, chunk);
        for (var row = 0u; row < ROWS; row++) { sums[row] += quad_dot(weights, load_x(row, chunk)); }
    }
    for (var chunk = lane; chunk < params.y_chunks; chunk += LANES) {
        let weights = load_second_quad(params.second_quad + index, params.y_chunks, chunk);
        for (var row = 0u; row < ROWS; row++) { sums[row] += params.scale * quad_dot(weights, load_y(row, chunk)); }
    }
    for (var row = 0u; row < ROWS; row++) {
        let total = reduce_sum(lane, sums[row]);
        let output = OUTS * index + lane;
        if lane < OUTS && output < params.rows {
            out[row * params.out_pitch + params.out_offset + output] = total[lane];
        }
    }
}
