// add: out[r, c] = a[r, c] + scale * b[r, c]
//
// Tiling: a thread a column, 256 columns a block, blockIdx.y strides over the rows. No barriers.
// Limits: none. Source: the CPU reference, src/backend/cpu/add.rs.
#include "prelude.cuh"

struct AddParams {
    Step step;
    View a;
    View b;
    View out;
    u32 count;  // header word that counts the rows
    float scale;
};

KERNEL(256, add_f32, AddParams) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.out.width) return;
    for (u32 r = blockIdx.y; r < p.step.words[p.count]; r += gridDim.y) {
        p.out.row(r)[column] = p.a.row(r)[column] + p.scale * p.b.row(r)[column];
    }
}
