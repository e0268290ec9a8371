// norm: each of `groups` runs of columns is normed for itself, then weight and bias are applied
//   rms:   x / sqrt(mean(x^2) + eps)
//   layer: (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)
//   l2:    x / sqrt(sum(x^2) + eps)
//
// Tiling: a block a row and group (blockIdx.x, blockIdx.y); its threads stride over the columns.
// Barriers: two in every `block_sum`: one sum for rms and l2, two for layer (mean first: no cancellation).
// Limits: whole warps a block. Source: the CPU reference, src/backend/cpu/norm.rs.
#include "prelude.cuh"

struct NormParams {
    Step step;
    View x;
    View out;
    const float* weight;  // [weight_width] or null
    const float* bias;    // [bias_width] or null
    u32 count;            // header word that counts the rows
    u32 group;            // columns of a group
    u32 weight_width;     // all columns, or one group's
    u32 bias_width;
    u32 kind;
    float eps;
};

KERNEL(512, norm_f32, NormParams) {
    const u32 r = blockIdx.x;
    if (r >= p.step.words[p.count]) return;
    const u32 first = blockIdx.y * p.group;
    const float* x = p.x.row(r) + first;
    float* out = p.out.row(r) + first;

    float mean = 0.0f;
    if (p.kind == NORM_LAYER) {
        float sum = 0.0f;
        for (u32 i = threadIdx.x; i < p.group; i += blockDim.x) sum += x[i];
        mean = block_sum(sum) / (float)p.group;
    }
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < p.group; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
    squares = block_sum(squares);
    const float sum = (p.kind == NORM_L2 ? squares : squares / (float)p.group) + p.eps;
    // Beyond f32 the factor would be 0, and so all that it scales: infinite, it makes outputs that are refused.
    const float factor = sum <= 3.4e38f ? 1.0f / sqrtf(sum) : sum;

    for (u32 i = threadIdx.x; i < p.group; i += blockDim.x) {
        float y = (x[i] - mean) * factor;
        if (p.weight) y *= p.weight[(first + i) % p.weight_width];
        if (p.bias) y += p.bias[(first + i) % p.bias_width];
        out[i] = y;
    }
}
