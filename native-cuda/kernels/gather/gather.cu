// gather: out[o, c] = x[output_row(o), c], the rows whose logits are wanted
//
// Tiling: a thread a column, 256 columns a block, blockIdx.y strides over the outputs. No barriers.
// Limits: none. Source: the CPU reference, src/backend/cpu/gather.rs.
#include "prelude.cuh"

struct GatherParams {
    Step step;
    View x;
    View out;
};

KERNEL(256, gather_f32, GatherParams) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.out.width) return;
    for (u32 o = blockIdx.y; o < p.step.outputs(); o += gridDim.y) {
        p.out.row(o)[column] = p.x.row(p.step.output_row(o))[column];
    }
}
