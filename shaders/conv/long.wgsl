// conv with a kernel of any length; the formula of conv.wgsl.
//
// Tiling: one invocation for one channel, or a word of four, of one row. Barriers: none. Only reads the state, as
// conv.wgsl does.
@group(0) @binding(2) var<storage, read> x: array<Number>;               // [rows, x_pitch]
@group(0) @binding(4) var<storage, read> state: array<Number>;           // [slots + 1, d_conv - 1, channels]
@group(0) @binding(5) var<storage, read_write> out: array<Number>;       // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / params.channels;
    let column = index % params.channels;
    if row >= row_count() { return; }
    let span = span_at(row_at(row).w);
    let time = row - span.y;
    let before = params.d_conv - 1u;
    var sum = bias_of(column);
    for (var tap = 0u; tap < params.d_conv; tap++) {
        // The input of this tap is row time + tap - before of the span.
        var value: Number;
        if time + tap < before {
            value = state[(span.x * before + time + tap) * params.channels + column];
        } else {
            value = x[(row + tap - before) * params.x_pitch + params.x_offset + column];
        }
        sum += tap_of(column, tap) * value;
    }
    out[row * params.out_pitch + column] = apply(params.function, sum);
}
