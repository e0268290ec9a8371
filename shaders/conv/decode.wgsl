// conv and conv_append in one, for few rows (decode); the formula of conv.wgsl.
//
// Tiling: one invocation for one channel, or a word of four, of one span. It walks the rows with the inputs before each
// in registers, and leaves the last ones in the state. Barriers: none. Limits: d_conv up to 8.
@group(0) @binding(2) var<storage, read> x: array<Number>;               // [rows, x_pitch]
@group(0) @binding(4) var<storage, read_write> state: array<Number>;     // [slots + 1, d_conv - 1, channels]
@group(0) @binding(5) var<storage, read_write> out: array<Number>;       // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let which = index / params.channels;
    let column = index % params.channels;
    if which >= span_count() { return; }
    let span = span_at(which);
    let before = params.d_conv - 1u;
    let at = span.x * before * params.channels + column;
    var earlier: array<Number, MOST_BEFORE>;   // the inputs before this row, oldest first
    for (var i = 0u; i < before; i++) { earlier[i] = state[at + i * params.channels]; }
    for (var row = span.y; row < span.y + span.w; row++) {
        let value = x[row * params.x_pitch + params.x_offset + column];
        var sum = bias_of(column) + value * tap_of(column, before);
        for (var i = 0u; i < before; i++) { sum += earlier[i] * tap_of(column, i); }
        for (var i = 1u; i < before; i++) { earlier[i - 1u] = earlier[i]; }
        earlier[before - 1u] = value;
        out[row * params.out_pitch + column] = apply(params.function, sum);
    }
    for (var i = 0u; i < before; i++) { state[at + i * params.channels] = earlier[i]; }
}
