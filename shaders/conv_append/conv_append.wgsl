// conv_append: leaves the last d_conv - 1 inputs of every span in the convolution's state.
//
// Tiling: one invocation for one channel of one span. It goes through the columns from the oldest on,
// so that a column that moves within the state is read before it is overwritten.
struct Params {
    channels: u32,
    before: u32,        // d_conv - 1
    x_pitch: u32,
    x_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(3) var<storage, read_write> state: array<f32>;        // [slots + 1, d_conv - 1, channels]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let which = index / params.channels;
    let channel = index % params.channels;
    if which >= span_count() { return; }
    let span = span_at(which);
    let to = span.x * params.before * params.channels + channel;
    for (var i = 0u; i < params.before; i++) {
        var value: f32;
        if span.w + i < params.before {
            value = state[to + (i + span.w) * params.channels];
        } else {
            value = x[(span.y + span.w + i - params.before) * params.x_pitch + params.x_offset + channel];
        }
        state[to + i * params.channels] = value;
    }
}
