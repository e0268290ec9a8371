// gate: out[r, c] = function(gate[r, c / span]) * x[r, c], span = columns / gates
//
// Tiling: a thread a column, 256 columns a block, blockIdx.y strides over the rows. No barriers.
// Limits: none. Source: the CPU reference, src/backend/cpu/gate.rs.
#include "prelude.cuh"

struct GateParams {
    Step step;
    View gate;
    View x;
    View out;
    u32 count;  // header word that counts the rows
    u32 function;
};

KERNEL(256, gate_f32, GateParams) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.out.width) return;
    const u32 of = column / (p.out.width / p.gate.width);
    for (u32 r = blockIdx.y; r < p.step.words[p.count]; r += gridDim.y) {
        p.out.row(r)[column] = apply(p.function, p.gate.row(r)[of]) * p.x.row(r)[column];
    }
}
