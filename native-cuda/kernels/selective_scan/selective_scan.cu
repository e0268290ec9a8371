// selective_scan: the Mamba-1 recurrence. With D = softplus(dt[t, c]):
//   s[c, n] <- exp(D a[c, n]) s[c, n] + D x[t, c] b[t, n]
//   out[t, c] = sum_n s[c, n] c[t, n] + d[c] x[t, c]
//
// Tiling: 8 lanes a channel, 16 channels a block; blockIdx.y strides over the spans. Lane i keeps the states
// i, i + 8, ... of its channel in registers, walks through the span row by row, and the 8 lanes add up by
// shuffles. No barriers. Parallel over channels only: the form in chunks is not here yet.
// Limits: N up to 64. Source: the CPU reference, src/backend/cpu/selective_scan.rs; Gu and Dao, arXiv:2312.00752.
#include "prelude.cuh"

constexpr u32 LANES = 8, STATES = 8;  // N <= LANES * STATES

struct SelectiveScanParams {
    Step step;
    View x;
    View dt;
    View b;
    View c;
    View out;
    const float* a;  // [channels, N]
    const float* d;  // [channels]
    float* state;    // [slots + 1, channels, N]
};

KERNEL(128, selective_scan_f32, SelectiveScanParams) {
    const u32 index = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, part = threadIdx.x % LANES;
    const u32 channels = p.x.width, n = p.b.width;
    // Lanes without a channel follow another's, and write nothing: all lanes take part in shuffles.
    const bool there = index < channels;
    const u32 channel = there ? index : channels - 1;

    float a[STATES];
#pragma unroll
    for (u32 i = 0; i < STATES; i++) {
        const u32 column = part + i * LANES;
        a[i] = column < n ? p.a[(u64)channel * n + column] : 0.0f;
    }
    const float d = p.d[channel];
    for (u32 which = blockIdx.y; which < p.step.spans(); which += gridDim.y) {
        const Span span = p.step.span(which);
        float* state = p.state + ((u64)span.slot * channels + channel) * n;
        float s[STATES];
#pragma unroll
        for (u32 i = 0; i < STATES; i++) {
            const u32 column = part + i * LANES;
            s[i] = column < n ? state[column] : 0.0f;
        }
        for (u32 r = span.first_row; r < span.first_row + span.rows; r++) {
            const float x = p.x.row(r)[channel], delta = softplus(p.dt.row(r)[channel]);
            const float *b = p.b.row(r), *c = p.c.row(r);
            float y = 0.0f;
#pragma unroll
            for (u32 i = 0; i < STATES; i++) {
                const u32 column = part + i * LANES;
                if (column < n) {
                    s[i] = expf(delta * a[i]) * s[i] + delta * x * b[column];
                    y = fmaf(s[i], c[column], y);
                }
            }
            y = warp_sum<LANES>(y);
            if (there && part == 0) p.out.row(r)[channel] = y + d * x;
        }
#pragma unroll
        for (u32 i = 0; i < STATES; i++) {
            const u32 column = part + i * LANES;
            if (there && column < n) state[column] = s[i];
        }
    }
}
