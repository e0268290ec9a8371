// kv_append: puts the keys and values of every row into the slot's pools
//
// Tiling: a thread a column, keys first, then values; 256 columns a block, blockIdx.y strides over the
// rows. A span longer than a ring meets some of its rows twice: the later position wins, the earlier one
// is not written at all, so that no two threads write one place. No barriers; runs after the last reader.
// Limits: none. Source: the CPU reference, src/backend/cpu/kv_append.rs.
#include "prelude.cuh"

struct KvAppendParams {
    Step step;
    View k;
    View v;
    void* keys;    // [pool rows, k.width]
    void* values;  // [pool rows, v.width]
    KvRows kv;
};

template <class Cache> DEVICE void append(const KvAppendParams& p) {
    const u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= p.k.width + p.v.width) return;
    for (u32 r = blockIdx.y; r < p.step.rows(); r += gridDim.y) {
        const Row row = p.step.row(r);
        const Span span = p.step.span(row.span);
        if (span.rows == 0) continue;  // of a finished slot
        const u32 later = span.first_row + span.rows - 1 - r;
        if (p.kv.ring && row.position >= p.kv.pinned && later >= p.kv.ring) continue;
        const u64 to = p.kv.row(row.slot, row.position);
        if (column < p.k.width) {
            store((Cache*)p.keys + to * p.k.width + column, p.k.row(r)[column]);
        } else {
            const u32 c = column - p.k.width;
            store((Cache*)p.values + to * p.v.width + c, p.v.row(r)[c]);
        }
    }
}

KERNEL(256, kv_append_f32, KvAppendParams) { append<float>(p); }
KERNEL(256, kv_append_f16, KvAppendParams) { append<f16>(p); }
