// activation: out[r, c] = function(x[r, c]) * scale
//
// Tiling: a thread a column, 256 columns a block, blockIdx.y strides over the rows. No barriers.
// Limits: none. Source: the CPU reference, src/backend/cpu/activation.rs.
#include "prelude.cuh"

struct ActivationParams {
    Step step;
    View x;
    View out;
    u32 count;  // header word that counts the rows
    u32 function;
    float scale;
};

KERNEL(256, activation_f32, ActivationParams) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.out.width) return;
    for (u32 r = blockIdx.y; r < p.step.words[p.count]; r += gridDim.y) {
        p.out.row(r)[column] = apply(p.function, p.x.row(r)[column]) * p.scale;
    }
}
