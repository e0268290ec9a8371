// moe_apply for many rows (prefill), 2 and 3 of 4: result[pair, o] = sum_i weight[expert, o, i] input[pair, i],
// for the pairs of one tile. The input is the row's x for `up`, and made of `hidden` for `down`: see
// moe_apply/input_*.wgsl.
//
// Tiling: as linear/tile.wgsl: a workgroup of 16 x 16 makes 32 pairs x 64 outputs, each invocation 2 x 4, in
// steps of 32 inputs that are staged in workgroup memory as f32. There are as many workgroups as there can be
// tiles; those without one, or with rows of another segment only, stop at once.
// Barriers: two a step. Limits: 12 KiB of workgroup memory, 256 invocations.
const TILE_ROWS = 32u;
const TILE_OUTS = 64u;
const STEP = 8u;        // words of four inputs
@group(0) @binding(3) var<storage, read> lists: array<u32>;              // see moe_apply/group.wgsl

var<workgroup> x_tile: array<vec4<f32>, TILE_ROWS * STEP>;
var<workgroup> w_tile: array<vec4<f32>, TILE_OUTS * STEP>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if workgroup.y >= lists[0] { return; }
    let tile = 4u + 4u * workgroup.y;
    let pairs_at = params.pairs_at + lists[tile + 1u];
    let count = lists[tile + 2u];
    let first_out = workgroup.x * TILE_OUTS;
    let base = lists[tile] * params.width + first_out;
    let end = params.first + params.rows;
    if base + TILE_OUTS <= params.first || base >= end { return; }
    // This lane's part of staging: one word of the input, one chunk (two words) of the weight.
    let pair = lists[pairs_at + min(lane / STEP, count - 1u)];
    let x_word = lane % STEP;
    let w_row = clamp(base + lane / 4u, params.first, end - 1u) - params.first;
    let w_chunk = lane % 4u;
    // And of the result.
    let row = 2u * (lane / 16u);
    let out_at = 4u * (lane % 16u);

    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    for (var start = 0u; start < params.chunks; start += STEP / 2u) {
        x_tile[lane] = load_input(pair, 2u * start + x_word);
        var weights = Eight(vec4(0.0), vec4(0.0));
        if start + w_chunk < params.chunks { weights = load_weight(w_row * params.chunks + start + w_chunk); }
        w_tile[2u * lane] = weights.low;
        w_tile[2u * lane + 1u] = weights.high;
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let a0 = x_tile[row * STEP + k];
            let a1 = x_tile[(row + 1u) * STEP + k];
            let b0 = w_tile[out_at * STEP + k];
            let b1 = w_tile[(out_at + 1u) * STEP + k];
            let b2 = w_tile[(out_at + 2u) * STEP + k];
            let b3 = w_tile[(out_at + 3u) * STEP + k];
            sum0 += vec4(dot(a0, b0), dot(a0, b1), dot(a0, b2), dot(a0, b3));
            sum1 += vec4(dot(a1, b0), dot(a1, b1), dot(a1, b2), dot(a1, b3));
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let output = first_out + out_at + i;
        let weight_row = base + out_at + i;
        if output >= params.width || weight_row < params.first || weight_row >= end { continue; }
        if row < count { store(lists[pairs_at + row], output, sum0[i]); }
        if row + 1u < count { store(lists[pairs_at + row + 1u], output, sum1[i]); }
    }
}
