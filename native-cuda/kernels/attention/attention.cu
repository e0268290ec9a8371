// attention: softmax(scale * q k^T) v over the keys before the span (from the pools) and the span's own
// A key at j is seen from i when j <= i and (no window, or i - j <= window, or j < pinned).
//
// Tiling: a block a row and query head (blockIdx.x, blockIdx.y), 4 warps. The seen keys are counted
// through (pinned ones first); warp w takes every fourth tile of 32 of them. A lane scores one key and
// leaves its weight in shared memory; then the lanes share out the columns of the values, 32 apart, and
// walk through the tile's keys. Each warp keeps a running maximum and sum (online softmax); at the end
// the four are merged in shared memory.
// Barriers: after the query is staged, before the merge; of a warp, around the weights of a tile.
// Limits: heads of keys and of values up to 256 columns.
// Source: the CPU reference, src/backend/cpu/attention.rs; online softmax: Milakov and Gimelshein, arXiv:1805.02867.
#include "prelude.cuh"

constexpr u32 WARPS = 4;
// A location with this bit is a row of the span, without it a row of the pool.
constexpr u32 OWN = 0x80000000u;

struct AttentionParams {
    Step step;
    View q;
    View k;
    View v;
    View out;
    const void* keys;    // [pool rows, kv_heads * key_width]
    const void* values;  // [pool rows, kv_heads * value_width]
    KvRows kv;
    u32 heads;
    u32 kv_heads;
    u32 key_width;
    u32 value_width;
    u32 window;
    u32 decode_window;  // for spans of one row
    float scale;
};

template <class Cache> DEVICE void attend(const AttentionParams& p) {
    const u32 r = blockIdx.x, head = blockIdx.y;
    if (r >= p.step.rows()) return;
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const u32 kv_head = head / (p.heads / p.kv_heads);
    const Row row = p.step.row(r);
    const Span span = p.step.span(row.span);
    const Cache* keys = (const Cache*)p.keys + kv_head * p.key_width;
    const Cache* values = (const Cache*)p.values + kv_head * p.value_width;

    // The seen keys: positions 0 .. front, then oldest ..= row.position.
    const u32 window = span.rows == 1 ? p.decode_window : p.window;
    const u32 front = min(p.kv.pinned, row.position + 1);
    const u32 reach = window == NO_WINDOW || row.position < window ? 0 : row.position - window;
    const u32 oldest = max(p.kv.pinned, reach);
    const u32 seen = front + (row.position >= oldest ? row.position - oldest + 1 : 0);

    SHARED(float, query, [WIDEST_HEAD]);
    SHARED(float, weights, [WARPS][WARP]);
    SHARED(u32, locations, [WARPS][WARP]);
    for (u32 i = threadIdx.x; i < p.key_width; i += blockDim.x) {
        query[i] = p.q.row(r)[head * p.key_width + i] * p.scale;
    }
    __syncthreads();

    float largest = -INFINITY, total = 0.0f, sum[WIDEST_HEAD / WARP] = {};
    for (u32 tile = warp * WARP; tile < seen; tile += WARPS * WARP) {
        // My key: where it lies, and its score.
        const u32 index = tile + lane;
        const bool there = index < seen;
        u32 location = 0;
        float score = -INFINITY;
        if (there) {
            const u32 position = index < front ? index : oldest + (index - front);
            float dot = 0.0f;
            if (position >= span.first_position) {
                const u32 own = span.first_row + (position - span.first_position);
                const float* key = p.k.row(own) + kv_head * p.key_width;
                for (u32 i = 0; i < p.key_width; i++) dot = fmaf(query[i], key[i], dot);
                location = OWN | own;
            } else {
                location = p.kv.row(row.slot, position);
                const Cache* key = keys + (u64)location * p.kv_heads * p.key_width;
                for (u32 i = 0; i < p.key_width; i++) dot = fmaf(query[i], widen(key[i]), dot);
            }
            score = dot;
        }
        const float before = largest;
        largest = fmaxf(before, warp_max(score));
        const float fade = expf(before - largest), weight = there ? expf(score - largest) : 0.0f;
        total = total * fade + warp_sum(weight);
#pragma unroll
        for (u32 c = 0; c < WIDEST_HEAD / WARP; c++) sum[c] *= fade;

        __syncwarp();  // the tile before has been read
        weights[warp][lane] = weight;
        locations[warp][lane] = location;
        __syncwarp();
        for (u32 other = 0; other < min(WARP, seen - tile); other++) {
            const float share = weights[warp][other];
            const u32 at = locations[warp][other];
            const float* own = p.v.row(at & ~OWN) + kv_head * p.value_width;
            const Cache* pool = values + (u64)at * p.kv_heads * p.value_width;
#pragma unroll
            for (u32 c = 0; c < WIDEST_HEAD / WARP; c++) {
                const u32 column = lane + c * WARP;
                if (column < p.value_width) {
                    sum[c] = fmaf(share, at & OWN ? own[column] : widen(pool[column]), sum[c]);
                }
            }
        }
    }

    SHARED(float, warp_largest, [WARPS]);
    SHARED(float, warp_total, [WARPS]);
    SHARED(float, warp_sums, [WARPS][WIDEST_HEAD]);
    if (lane == 0) warp_largest[warp] = largest, warp_total[warp] = total;
#pragma unroll
    for (u32 c = 0; c < WIDEST_HEAD / WARP; c++) warp_sums[warp][lane + c * WARP] = sum[c];
    __syncthreads();
    float all_largest = -INFINITY, all_total = 0.0f, fade[WARPS];
    for (u32 w = 0; w < WARPS; w++) all_largest = fmaxf(all_largest, warp_largest[w]);
    for (u32 w = 0; w < WARPS; w++) {
        fade[w] = expf(warp_largest[w] - all_largest);
        all_total += fade[w] * warp_total[w];
    }
    for (u32 column = threadIdx.x; column < p.value_width; column += blockDim.x) {
        float y = 0.0f;
        for (u32 w = 0; w < WARPS; w++) y = fmaf(fade[w], warp_sums[w][column], y);
        p.out.row(r)[head * p.value_width + column] = y / all_total;
    }
}

KERNEL(128, attention_f32, AttentionParams) { attend<float>(p); }
KERNEL(128, attention_f16, AttentionParams) { attend<f16>(p); }
