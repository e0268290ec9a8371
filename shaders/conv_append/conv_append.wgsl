// conv_append: leaves the last d_conv - 1 inputs of every span in the convolution's state.
//
// Tiling: one invocation for one channel, or a word of four, of one span, and of more spans where there are many. It
// goes through the inputs from the oldest on, so that one that moves within the state is read before it is overwritten.
// Barriers: none.
struct Params {
    channels: u32,      // as the pitch and the offset, in Numbers
    before: u32,        // d_conv - 1
    x_pitch: u32,
    x_offset: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<Number>;               // [rows, x_pitch]
@group(0) @binding(3) var<storage, read_write> state: array<Number>;     // [slots + 1, d_conv - 1, channels]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let count = span_count() * params.channels;
    let stride = workgroups.x * workgroups.y * 64u;
    for (var index = wrapped(workgroup, workgroups) * 64u + lane; index < count; index += stride) { renew(index); }
}

// Column `index` of the states of all spans.
fn renew(index: u32) {
    let span = span_at(index / params.channels);
    let column = index % params.channels;
    let to = span.x * params.before * params.channels + column;
    for (var i = 0u; i < params.before; i++) {
        var value: Number;
        if span.w + i < params.before {
            value = state[to + (i + span.w) * params.channels];
        } else {
            value = x[(span.y + span.w + i - params.before) * params.x_pitch + params.x_offset + column];
        }
        state[to + i * params.channels] = value;
    }
}
