// conv: a depthwise causal convolution over the span, the columns before it taken from the slot's state
//   out[t, c] = function(bias[c] + sum_j weight[c, j] * x[t - (d_conv - 1) + j, c])
//
// Tiling: a thread a channel, 256 channels a block, blockIdx.y strides over the rows; the weights are read
// again by every row, from cache. No barriers. Reads the state, never writes it: see conv_append.
// Limits: none. Source: the CPU reference, src/backend/cpu/conv.rs.
#include "prelude.cuh"

struct ConvParams {
    Step step;
    View x;
    View out;
    const float* weight;  // [channels, d_conv]
    const float* bias;    // [channels] or null
    const float* state;   // [slots + 1, d_conv - 1, channels], oldest first
    u32 d_conv;
    u32 function;
};

KERNEL(256, conv_f32, ConvParams) {
    const u32 channel = blockIdx.x * blockDim.x + threadIdx.x, channels = p.x.width;
    if (channel >= channels) return;
    const float* weight = p.weight + (u64)channel * p.d_conv;
    const u32 kept = p.d_conv - 1;
    for (u32 r = blockIdx.y; r < p.step.rows(); r += gridDim.y) {
        const Row row = p.step.row(r);
        const u32 t = r - p.step.span(row.span).first_row;
        const float* before = p.state + (u64)row.slot * kept * channels + channel;
        float sum = p.bias ? p.bias[channel] : 0.0f;
        for (u32 j = 0; j < p.d_conv; j++) {
            // Row t + j - kept of the span; while that is negative, row t + j of the state.
            const float x = t + j >= kept ? p.x.row(r + j - kept)[channel] : before[(u64)(t + j) * channels];
            sum = fmaf(weight[j], x, sum);
        }
        p.out.row(r)[channel] = apply(p.function, sum);
    }
}
