// Parameters of all kernels of conv.
struct Params {
    channels: u32,      // as pitches and the offset, in Numbers
    d_conv: u32,
    x_pitch: u32,
    x_offset: u32,
    out_pitch: u32,
    kernel_at: u32,     // in `vectors`: [channels, d_conv]
    bias_at: u32,       // in `vectors`: [channels]; NONE: no bias
    function: u32,
    chunks_at: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
