// rope: rotates the first 2 * pairs columns of every head by the angle of the row's position, pairing
// column j with j + pairs (half-split); the other columns pass through, and all are multiplied by the growth
//   out[j] = x[j] cos - x[j + pairs] sin,   out[j + pairs] = x[j + pairs] cos + x[j] sin
//   growth = 1 + beta ln(1 + floor(position / original))
//
// Tiling: a thread a column, 256 columns a block, blockIdx.y strides over the rows. No barriers.
// The table of angles is made on the host in f64: f32 sines of thousands of radians are not good enough.
// Limits: positions below those of the table. Source: the CPU reference, src/backend/cpu/rope.rs.
#include "prelude.cuh"

struct RopeParams {
    Step step;
    View x;
    View out;
    const float2* table;  // [positions, pairs] of (cos, sin)
    u32 head_dim;         // columns of a head
    u32 pairs;
    float beta;           // of the growth; 0: there is none
    u32 original;         // positions of the context behind which it begins, at least 1
};

KERNEL(256, rope_f32, RopeParams) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.x.width) return;
    const u32 j = column % p.head_dim;
    for (u32 r = blockIdx.y; r < p.step.rows(); r += gridDim.y) {
        const float* x = p.x.row(r) + column;
        const u32 position = p.step.row(r).position;
        const float2* angles = p.table + (u64)position * p.pairs;
        float y = x[0];
        if (j < p.pairs) {
            y = x[0] * angles[j].x - x[p.pairs] * angles[j].y;
        } else if (j < 2 * p.pairs) {
            y = x[0] * angles[j - p.pairs].x + *(x - p.pairs) * angles[j - p.pairs].y;
        }
        if (p.beta != 0.0f) y *= 1.0f + p.beta * logf((float)(1 + position / p.original));
        p.out.row(r)[column] = y;
    }
}
