// ssd_scan: the Mamba-2 recurrence. With D = clamp(softplus(dt[t, h] + dt_bias[h]), limits) and the
// group g of head h:
//   s[h, p, n] <- exp(D a[h]) s[h, p, n] + D x[t, h, p] b[t, g, n]
//   out[t, h, p] = sum_n s[h, p, n] c[t, g, n] + d[h] x[t, h, p]
//
// Tiling: a warp a column (h, p), 4 warps a block; blockIdx.y strides over the spans. Lane i keeps the
// states i, i + 32, ... of its column in registers, walks through the span row by row, and the warp adds
// up by shuffles. No barriers. Parallel over columns only: the form in chunks is not here yet.
// Limits: N up to 256. Source: the CPU reference, src/backend/cpu/ssd_scan.rs; Dao and Gu, arXiv:2405.21060.
#include "prelude.cuh"

constexpr u32 STATES = 8;  // N <= 32 * STATES

struct SsdScanParams {
    Step step;
    View x;   // [rows, heads * columns]
    View dt;  // [rows, heads]
    View b;   // [rows, groups * N]
    View c;
    View out;
    const float* a;  // [heads]
    const float* d;
    const float* dt_bias;
    float* state;  // [slots + 1, heads, columns, N]
    u32 heads;
    u32 groups;
    float least;
    float most;
};

KERNEL(128, ssd_scan_f32, SsdScanParams) {
    const u32 column = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (column >= p.x.width) return;
    const u32 n = p.b.width / p.groups;
    const u32 head = column / (p.x.width / p.heads), group = head / (p.heads / p.groups);
    const float a = p.a[head], d = p.d[head], dt_bias = p.dt_bias[head];
    for (u32 which = blockIdx.y; which < p.step.spans(); which += gridDim.y) {
        const Span span = p.step.span(which);
        float* state = p.state + ((u64)span.slot * p.x.width + column) * n;
        float s[STATES];
#pragma unroll
        for (u32 i = 0; i < STATES; i++) s[i] = lane + i * WARP < n ? state[lane + i * WARP] : 0.0f;
        for (u32 r = span.first_row; r < span.first_row + span.rows; r++) {
            const float x = p.x.row(r)[column];
            const float step = softplus(p.dt.row(r)[head] + dt_bias);
            const float delta = step < p.least ? p.least : step > p.most ? p.most : step;  // NaN stays
            const float decay = expf(delta * a);
            const float *b = p.b.row(r) + group * n, *c = p.c.row(r) + group * n;
            float y = 0.0f;
#pragma unroll
            for (u32 i = 0; i < STATES; i++) {
                const u32 at = lane + i * WARP;
                if (at < n) {
                    s[i] = decay * s[i] + delta * x * b[at];
                    y = fmaf(s[i], c[at], y);
                }
            }
            y = warp_sum(y);
            if (lane == 0) p.out.row(r)[column] = y + d * x;
        }
#pragma unroll
        for (u32 i = 0; i < STATES; i++) {
            if (lane + i * WARP < n) state[lane + i * WARP] = s[i];
        }
    }
}
