// moe_apply for few rows (decode), 2 of 2: out[row, o] = sum_e weight_e sum_i down[e, o, i] inner_e[i], with
// inner of `hidden` as moe_apply/inner.wgsl has it.
//
// Tiling: one workgroup makes OUTS outputs of one row, over all its experts; lanes stride over the inputs, eight
// at a time. Barriers: one reduction. A weight of several segments is one dispatch a segment; each but the
// first adds its part to what the ones before left.
const LANES = 64u;
const OUTS = 4u;
@group(0) @binding(4) var<storage, read> hidden: array<f32>;             // [pairs, hidden_pitch]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let blocks = (params.width + OUTS - 1u) / OUTS;
    let row = index / blocks;
    let output = index % blocks * OUTS;
    if row >= rows_in_use(params.outputs) { return; }
    let end = params.first + params.rows;
    var sums = vec4(0.0);
    for (var place = 0u; place < params.top_k; place++) {
        let expert = expert_of(row, place);
        if expert >= params.experts { continue; }
        let base = expert * params.width + output;
        if base + OUTS <= params.first || base >= end { continue; }
        let wanted = vec4(base, base + 1u, base + 2u, base + 3u);
        let here = (wanted >= vec4(params.first)) & (wanted < vec4(end));
        let rows = clamp(wanted, vec4(params.first), vec4(end - 1u)) - params.first;
        let pair = row * params.top_k + place;
        var products = vec4(0.0);
        for (var chunk = lane; chunk < params.chunks; chunk += LANES) {
            let value = Eight(inner(pair, 2u * chunk), inner(pair, 2u * chunk + 1u));
            products += quad_dot(load_rows(rows, chunk), value);
        }
        sums += select(vec4(0.0), weight_of(row, place) * products, here);
    }
    let total = reduce_sum(lane, sums);
    if lane < OUTS && output + lane < params.width {
        let to = row * params.out_pitch + output + lane;
        var value = total[lane];
        if params.added == 1u { value += out[to]; }
        out[to] = value;
    }
}
