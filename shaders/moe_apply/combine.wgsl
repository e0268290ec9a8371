// moe_apply for many rows (prefill), 4 of 4: out[row, o] = sum_e weight_e sums[pair, o], over the row's experts
// in their order.
//
// Tiling: one invocation for one element. Barriers: none.
@group(0) @binding(2) var<storage, read> sums: array<f32>;               // [pairs, sums_pitch]
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
    if row >= rows_in_use(params.outputs) { return; }
    var sum = 0.0;
    for (var place = 0u; place < params.top_k; place++) {
        if expert_of(row, place) >= params.experts { continue; }
        sum += weight_of(row, place) * sums[(row * params.top_k + place) * params.sums_pitch + column];
    }
    out[row * params.out_pitch + column] = sum;
}
