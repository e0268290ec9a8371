// attention of few rows (decode), 2 of 2: the result of a row and a head out of what the slices of its keys gave,
//   out = sum_i exp(m_i - m) o_i / sum_i exp(m_i - m) t_i,   m = max_i m_i,
// with m_i the highest score, t_i the sum of weights and o_i the weighted values of slice i. One without keys has t_i = 0.
//
// Tiling: one invocation for one column of one head of one row. Barriers: none.
// Source: Dao et al. 2023, Flash-Decoding (the running softmax of Milakov and Gimelshein 2018, over slices).
@group(0) @binding(2) var<storage, read> parts: array<f32>;              // [rows, heads, slices, 2 + value_width]
@group(0) @binding(3) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let width = params.heads * params.value_width;
    let row = index / width;
    if row >= row_count() { return; }
    let head = index % width / params.value_width;
    let column = index % params.value_width;
    var highest = -3.0e38;
    for (var slice = 0u; slice < params.slices; slice++) {
        highest = max(highest, parts[part_at(row, head, slice)]);
    }
    var total = 0.0;
    var sum = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        let at = part_at(row, head, slice);
        let weight = exp(parts[at] - highest);
        total += weight * parts[at + 1u];
        sum += weight * parts[at + 2u + column];
    }
    out[row * params.out_pitch + index % width] = sum / total;
}
