// Input of a linear layer: a causal convolution of x, as conv/conv.wgsl has it.
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(7) var<storage, read> state: array<f32>;              // [slots + 1, d_conv - 1, columns]

fn prepare(lane: u32, group: u32) {}

fn input_at(row: u32, column: u32) -> f32 {
    let span = span_at(row_at(row).w);
    let time = row - span.y;
    let before = params.d_conv - 1u;
    var sum = 0.0;
    if params.kernel_bias_at != NONE { sum = vectors[params.kernel_bias_at + column]; }
    for (var tap = 0u; tap < params.d_conv; tap++) {
        var value: f32;
        if time + tap < before {
            value = state[(span.x * before + time + tap) * params.columns + column];
        } else {
            value = x[(row + tap - before) * params.x_pitch + params.x_offset + column];
        }
        sum += vectors[params.kernel_at + column * params.d_conv + tap] * value;
    }
    return apply(params.function, sum);
}
