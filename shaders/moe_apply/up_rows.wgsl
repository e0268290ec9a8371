// moe_apply for few rows (decode), 1 of 2: hidden[pair, o] = sum_i up[expert, o, i] x[row, i].
//
// Tiling: one workgroup makes OUTS outputs of one pair; lanes stride over the inputs, eight at a time. Only
// rows of chosen experts are ever read. Barriers: one reduction. A weight of several segments is one dispatch a
// segment; a workgroup whose rows lie in another has nothing to do.
const LANES = 64u;
const OUTS = 4u;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
@group(0) @binding(5) var<storage, read_write> hidden: array<f32>;       // [pairs, hidden_pitch]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let blocks = (params.width + OUTS - 1u) / OUTS;
    let pair = index / blocks;
    let output = index % blocks * OUTS;
    let row = pair / params.top_k;
    if row >= rows_in_use(params.outputs) { return; }
    let expert = expert_of(row, pair % params.top_k);
    if expert >= params.experts { return; }
    let base = expert * params.width + output;
    let end = params.first + params.rows;
    if base + OUTS <= params.first || base >= end { return; }
    let wanted = vec4(base, base + 1u, base + 2u, base + 3u);
    let rows = clamp(wanted, vec4(params.first), vec4(end - 1u)) - params.first;
    var sums = vec4(0.0);
    for (var chunk = lane; chunk < params.chunks; chunk += LANES) {
        let place = row * params.x_pitch / 4u + 2u * chunk;
        let value = within(params.columns, chunk, Eight(x[place], x[place + 1u]));
        sums += quad_dot(load_rows(rows, chunk), value);
    }
    let total = reduce_sum(lane, sums);
    let mine = base + lane;
    if lane < OUTS && output + lane < params.width && mine >= params.first && mine < end {
        hidden[pair * params.hidden_pitch + output + lane] = total[lane];
    }
}
