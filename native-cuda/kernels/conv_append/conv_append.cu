// conv_append: leaves the last d_conv - 1 rows of every span in the slot's state, oldest first
//
// Tiling: a thread a channel, 256 channels a block, blockIdx.y strides over the spans. A thread moves its
// channel's rows from the oldest on: row i takes row i + rows of (the state, then the span), so that it
// never reads what it has overwritten. No barriers; runs after conv.
// Limits: none. Source: the CPU reference, src/backend/cpu/conv_append.rs.
#include "prelude.cuh"

struct ConvAppendParams {
    Step step;
    View x;
    float* state;  // [slots + 1, kept, channels]
    u32 kept;      // d_conv - 1
};

KERNEL(256, conv_append_f32, ConvAppendParams) {
    const u32 channel = blockIdx.x * blockDim.x + threadIdx.x, channels = p.x.width;
    if (channel >= channels) return;
    for (u32 s = blockIdx.y; s < p.step.spans(); s += gridDim.y) {
        const Span span = p.step.span(s);
        float* state = p.state + (u64)span.slot * p.kept * channels + channel;
        for (u32 i = 0; i < p.kept; i++) {
            const u32 from = i + span.rows;
            state[(u64)i * channels] =
                from < p.kept ? state[(u64)from * channels] : p.x.row(span.first_row + from - p.kept)[channel];
        }
    }
}
