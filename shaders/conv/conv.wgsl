// conv: depthwise causal convolution over a span, the rows before it taken from the state.
//   out[t, c] = function(bias[c] + sum_j kernel[c, j] x[t - (d_conv - 1) + j, c])
//
// Tiling: one invocation an element of the result. Barriers: none. Only reads the state; conv_append
// renews it afterwards, when no row needs the old one any more.
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(3) var<storage, read> vectors: array<f32>;
@group(0) @binding(4) var<storage, read> state: array<f32>;              // [slots + 1, d_conv - 1, channels]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / params.channels;
    let channel = index % params.channels;
    if row >= row_count() { return; }
    let span = span_at(row_at(row).w);
    let time = row - span.y;
    let before = params.d_conv - 1u;
    var sum = 0.0;
    if params.bias_at != NONE { sum = vectors[params.bias_at + channel]; }
    for (var tap = 0u; tap < params.d_conv; tap++) {
        // The input of this tap is row time + tap - before of the span.
        var value: f32;
        if time + tap < before {
            value = state[(span.x * before + time + tap) * params.channels + channel];
        } else {
            value = x[(row + tap - before) * params.x_pitch + params.x_offset + channel];
        }
        sum += vectors[params.kernel_at + channel * params.d_conv + tap] * value;
    }
    out[row * params.out_pitch + channel] = apply(params.function, sum);
}
