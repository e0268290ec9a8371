// moe_apply for many rows (prefill), 2 and 3 of 4: result[pair, o] = sum_i weight[expert, o, i] input[pair, i],
// for the pairs of one tile. The input is the row's x for `up`, and made of `hidden` for `down`: see
// moe_apply/input_*.wgsl.
//
// Tiling: shared/tile.wgsl; a workgroup for the pairs of one tile and TILE_OUTS outputs, 256 invocations. There
// are as many workgroups as there can be tiles; those without one, or with rows of another segment only, stop at
// once.
@group(0) @binding(3) var<storage, read> lists: array<u32>;              // see moe_apply/group.wgsl

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if workgroup.y >= lists[0] { return; }
    let tile = TILE_WORDS * (1u + workgroup.y);
    let pairs_at = params.pairs_at + lists[tile + 1u];
    let count = lists[tile + 2u];
    let first_out = workgroup.x * TILE_OUTS;
    let base = lists[tile] * params.width + first_out;
    let end = params.first + params.rows;
    if base + TILE_OUTS <= params.first || base >= end { return; }
    let pair = lists[pairs_at + min(lane / STEP, count - 1u)];
    let w_row = clamp(base + lane / STEP_CHUNKS, params.first, end - 1u) - params.first;
    var sums = Products(vec4(0.0), vec4(0.0));
    for (var start = 0u; start < params.chunks; start += STEP_CHUNKS) {
        let chunk = start + lane % STEP_CHUNKS;
        var weights = Eight(vec4(0.0), vec4(0.0));
        if chunk < params.chunks { weights = load_weight(w_row, params.chunks, chunk); }
        sums = tile_step(lane, load_input(pair, 2u * start + lane % STEP), weights, sums);
    }
    let row = tile_row(lane);
    for (var i = 0u; i < 4u; i++) {
        let output = first_out + tile_out(lane) + i;
        let weight_row = base + tile_out(lane) + i;
        if output >= params.width || weight_row < params.first || weight_row >= end { continue; }
        if row < count { store(lists[pairs_at + row], output, sums.first[i]); }
        if row + 1u < count { store(lists[pairs_at + row + 1u], output, sums.second[i]); }
    }
}
