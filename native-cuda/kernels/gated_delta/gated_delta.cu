// gated_delta: the gated delta rule. With D = exp(a[h] softplus(dt[t, h] + dt_bias[h])), B = sigmoid(beta[t, h])
// and the query and key head g of value head h:
//   e[j] = B (v[t, h, j] - D sum_i s[h, i, j] k[t, g, i]);   s[h, i, j] <- D s[h, i, j] + k[t, g, i] e[j]
//   out[t, h, j] = scale sum_i s[h, i, j] q[t, g, i] = scale (D sum_i (old s) q[i] + (q . k) e[j])
//
// Tiling: a block 32 value columns of a head (blockIdx.x); blockIdx.y strides over the spans. The threads of a
// warp are neighbours in j, its 8 warps share the keys: warp w keeps the states w, w + 8, ... of each column in
// registers and walks through the span row by row; the warps add up in shared memory. Parallel over columns
// only: the form in chunks is not here yet.
// Barriers: two a row. Limits: keys of up to 256 columns.
// Source: the CPU reference, src/backend/cpu/gated_delta.rs; Yang, Kautz and Hatamizadeh, arXiv:2412.06464.
#include "prelude.cuh"

constexpr u32 COLUMNS = WARP, PARTS = 8;
constexpr u32 STATES = 32;  // keys <= PARTS * STATES

struct GatedDeltaParams {
    Step step;
    View q;  // [rows, key_heads * keys], normed
    View k;
    View v;     // [rows, heads * values]
    View beta;  // [rows, heads]
    View dt;
    View out;
    const float* a;        // [heads], negative
    const float* dt_bias;  // [heads]
    float* state;          // [slots + 1, heads, keys, values]
    u32 heads;
    u32 key_heads;
    float scale;
};

KERNEL(256, gated_delta_f32, GatedDeltaParams) {
    SHARED(float, read, [2][PARTS][COLUMNS]);  // of s . k and of s . q
    SHARED(float, both, [PARTS][COLUMNS]);     // of q . k
    const u32 keys = p.q.width / p.key_heads, values = p.v.width / p.heads;
    const u32 blocks = (values + COLUMNS - 1) / COLUMNS;
    const u32 head = blockIdx.x / blocks, lane = threadIdx.x % COLUMNS, part = threadIdx.x / COLUMNS;
    const u32 column = blockIdx.x % blocks * COLUMNS + lane;
    const bool used = column < values;
    const u32 key_from = head / (p.heads / p.key_heads) * keys;
    for (u32 which = blockIdx.y; which < p.step.spans(); which += gridDim.y) {
        const Span span = p.step.span(which);
        float* state = p.state + ((u64)span.slot * p.heads + head) * keys * values + column;
        float s[STATES];
#pragma unroll
        for (u32 n = 0; n < STATES; n++) {
            const u32 i = part + n * PARTS;
            s[n] = used && i < keys ? state[(u64)i * values] : 0.0f;
        }
        for (u32 r = span.first_row; r < span.first_row + span.rows; r++) {
            const float *q = p.q.row(r) + key_from, *k = p.k.row(r) + key_from;
            float of_key = 0.0f, of_query = 0.0f, product = 0.0f;
#pragma unroll
            for (u32 n = 0; n < STATES; n++) {
                const u32 i = part + n * PARTS;
                if (i < keys) {
                    of_key = fmaf(s[n], k[i], of_key);
                    of_query = fmaf(s[n], q[i], of_query);
                    product = fmaf(q[i], k[i], product);
                }
            }
            read[0][part][lane] = of_key;
            read[1][part][lane] = of_query;
            both[part][lane] = product;
            __syncthreads();
            of_key = of_query = product = 0.0f;
#pragma unroll
            for (u32 other = 0; other < PARTS; other++) {
                of_key += read[0][other][lane];
                of_query += read[1][other][lane];
                product += both[other][lane];
            }
            __syncthreads();
            const float decay = expf(p.a[head] * softplus(p.dt.row(r)[head] + p.dt_bias[head]));
            const float value = used ? p.v.row(r)[head * values + column] : 0.0f;
            const float error = apply(3, p.beta.row(r)[head]) * (value - decay * of_key);
#pragma unroll
            for (u32 n = 0; n < STATES; n++) {
                const u32 i = part + n * PARTS;
                if (i < keys) s[n] = fmaf(k[i], error, decay * s[n]);
            }
            if (used && part == 0) {
                p.out.row(r)[head * values + column] = p.scale * fmaf(product, error, decay * of_query);
            }
        }
#pragma unroll
        for (u32 n = 0; n < STATES; n++) {
            const u32 i = part + n * PARTS;
            if (used && i < keys) state[(u64)i * values] = s[n];
        }
    }
}
