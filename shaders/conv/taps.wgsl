// Kernel and bias of a channel, or of a word of four: taps_scalar.wgsl or taps_vector.wgsl.
@group(0) @binding(3) var<storage, read> vectors: array<f32>;

fn tap_of(column: u32, tap: u32) -> Number {
    return spaced(params.kernel_at + column * NUMBERS * params.d_conv + tap, params.d_conv);
}

fn bias_of(column: u32) -> Number {
    if params.bias_at == NONE { return Number(); }
    return spaced(params.bias_at + column * NUMBERS, 1u);
}
