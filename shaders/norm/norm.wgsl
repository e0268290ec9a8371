// norm: each group of columns of each row normed for itself, times weight, plus bias.
//   rms    x / sqrt(mean(x^2) + eps)
//   layer  (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)
//   l2     x / sqrt(sum(x^2) + eps)
//
// Tiling: one workgroup for one group of one row; lanes stride over the columns, or over words of four of them.
// Barriers: one reduction (two for layer, whose variance wants the mean first).
// Limits: none. Source: Zhang and Sennrich 2019 (RMS), Ba et al. 2016 (layer).
struct Params {
    kind: u32,          // NORM_RMS, NORM_LAYER or NORM_L2
    groups: u32,
    width: u32,         // of a group
    x_pitch: u32,
    x_offset: u32,
    out_pitch: u32,
    weight_at: u32,     // in `vectors`; NONE: no weight
    weight_len: u32,    // a group's width, or all groups'
    bias_at: u32,
    bias_len: u32,
    outputs: u32,       // 1: the rows are outputs
    eps: f32,
}
const LANES = 64u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<Number>;               // [rows, x_pitch]
@group(0) @binding(3) var<storage, read> vectors: array<Number>;
@group(0) @binding(4) var<storage, read_write> out: array<Number>;       // [rows, out_pitch]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let row = index / params.groups;
    let first = (index % params.groups) * params.width;
    let begin = (row * params.x_pitch + params.x_offset + first) / NUMBERS;
    // No early return: all lanes must reach the barriers.
    let width = select(0u, params.width, row < rows_in_use(params.outputs)) / NUMBERS;

    var mean = 0.0;
    if params.kind == NORM_LAYER {
        var sum = Number();
        for (var i = lane; i < width; i += LANES) { sum += x[begin + i]; }
        mean = reduce_sum(lane, vec4(whole(sum), 0.0, 0.0, 0.0)).x / f32(params.width);
    }
    var squares = Number();
    for (var i = lane; i < width; i += LANES) {
        let centred = x[begin + i] - mean;
        squares += centred * centred;
    }
    let total = reduce_sum(lane, vec4(whole(squares), 0.0, 0.0, 0.0)).x;
    let factor = inverse_root(select(total / f32(params.width), total, params.kind == NORM_L2) + params.eps);
    for (var i = lane; i < width; i += LANES) {
        let column = first / NUMBERS + i;
        var value = (x[begin + i] - mean) * factor;
        if params.weight_at != NONE { value *= vectors[params.weight_at / NUMBERS + column % (params.weight_len / NUMBERS)]; }
        if params.bias_at != NONE { value += vectors[params.bias_at / NUMBERS + column % (params.bias_len / NUMBERS)]; }
        out[row * params.out_pitch / NUMBERS + column] = value;
    }
}
