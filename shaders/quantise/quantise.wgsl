// Rows as a checkpoint has them become rows of a quantised matrix: the device's side of src/quantised/round.rs,
// whose words and formulas these are. The fit itself: quantise/fit_*.wgsl.
//
// Tiling: one invocation for one group of 32 columns of the rows of a quad, one row after the other, because the
// scales of two rows share a word. Rows of the quad that lie in another block keep what they have.
// Barriers: none. Limits: a block of less than 2^32 numbers.
struct Params {
    columns: u32,
    groups: u32,        // of a row
    record: u32,        // words of four bytes of a quad
    scales_at: u32,     // in it
    first: u32,         // row of the segment with which the block begins
    rows: u32,          // rows of the block that lie in the segment
    skipped: u32,       // and before those
    mse_search: u32,      // 0: plain rounding
    scale: f32,         // what every number is multiplied with
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> weight: array<u32>;       // records: see shared/weight_*.wgsl

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * 64u + lane;
    let quad = params.first / 4u + index / params.groups;
    let group = index % params.groups;
    let end = params.first + params.rows;
    for (var row = max(4u * quad, params.first); row < min(4u * quad + 4u, end); row++) {
        load_group(params.skipped + row - params.first, group);
        let fit = fit_group();
        store_codes(quad * params.record + 4u * GROUP_WORDS * group, row % 4u, quad * params.record + params.scales_at);
        store_scales(quad * params.record + params.scales_at, group, row % 4u, fit);
    }
}

// Puts the numbers of a group into `x`. A group that is not full is filled with its last number, which changes no
// extreme.
fn load_group(row: u32, group: u32) {
    count = min(params.columns - GROUP * group, GROUP);
    for (var i = 0u; i < GROUP; i++) {
        let number = number_at(row * params.columns + GROUP * group + min(i, count - 1u));
        x[i / 4u][i % 4u] = params.scale * number;
    }
}

// Puts the half of one row in its place among those of four.
fn store_half(at: u32, row: u32, half: u32) {
    let word = at + row / 2u;
    let shift = 16u * (row % 2u);
    weight[word] = (weight[word] & ~(0xffffu << shift)) | (half << shift);
}
