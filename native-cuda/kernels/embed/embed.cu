// embed: out[r, c] = table[token(r), c] * scale
//
// Tiling: a thread a column, 256 columns a block, blockIdx.y strides over the rows. No barriers.
// The token of a row is the step table's, or the one last sampled in the row's slot, which never leaves
// the device. The host checks ids before a step; an id past the table reads as zeros all the same.
// Limits: none. Source: the CPU reference, src/backend/cpu/embed.rs.
#include "prelude.cuh"

struct EmbedParams {
    Step step;
    const void* table;  // [ids, out.width], rows `table_pitch` numbers apart
    const Sampler* samplers;  // [slots + 1]
    View out;
    u32 ids;
    u32 table_pitch;
    float scale;
};

template <class Weight> DEVICE void embed(const EmbedParams& p) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.out.width) return;
    for (u32 r = blockIdx.y; r < p.step.rows(); r += gridDim.y) {
        const Row row = p.step.row(r);
        const u32 token = row.token == TOKEN_OF_SLOT ? p.samplers[row.slot].last_token : row.token;
        const Weight* ids = (const Weight*)p.table;
        p.out.row(r)[column] = token < p.ids ? widen(ids[(u64)token * p.table_pitch + column]) * p.scale : 0.0f;
    }
}

KERNEL(256, embed_f32, EmbedParams) { embed<float>(p); }
KERNEL(256, embed_f16, EmbedParams) { embed<f16>(p); }
KERNEL(256, embed_bf16, EmbedParams) { embed<bf16>(p); }
