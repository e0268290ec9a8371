// linear: out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o], weights in f32, f16 or bf16, sums in f32
//
// Two tilings. Reading the weights is what costs while there are few rows; arithmetic, when there are many.
//   few:  a warp an output, 8 warps a block; each lane takes 8 neighbouring weights at a time and uses
//         them for up to `ROWS` rows (blockIdx.y), then the warp adds up. No barriers.
//   many: a block a tile of 64 rows and 64 outputs; 16 inputs of both lie in shared memory at a time, and
//         each of the 256 threads adds up 4 x 4 products. Barriers: before and after a tile is filled.
// Limits: rows of x and of the weight begin on 32-byte and 16-byte boundaries (their pitches are
// multiples of 8). What lies between width and pitch is never read.
// Source: the CPU reference, src/backend/cpu/linear.rs. Tensor cores: not yet.
#include "prelude.cuh"

struct LinearParams {
    Step step;
    View x;
    View out;
    const void* weight;  // [at least out.width, x.width], rows `weight_pitch` numbers apart
    const float* bias;   // [out.width] or null
    u32 weight_pitch;
    u32 count;  // header word that counts the rows
};

template <class Weight, u32 ROWS> DEVICE void few(const LinearParams& p) {
    const u32 lane = threadIdx.x % WARP;
    const u32 o = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    const u32 first = blockIdx.y * ROWS, count = p.step.words[p.count];
    if (o >= p.out.width || first >= count) return;
    const Weight* weight = (const Weight*)p.weight + (u64)o * p.weight_pitch;

    float sum[ROWS] = {};
    const u32 whole = p.x.width / 8 * 8;
    for (u32 i = lane * 8; i < whole; i += WARP * 8) {
        float w[8], x[8];
        load8(weight + i, w);
#pragma unroll
        for (u32 r = 0; r < ROWS; r++) {
            if (first + r >= count) break;
            load8(p.x.row(first + r) + i, x);
#pragma unroll
            for (u32 k = 0; k < 8; k++) sum[r] = fmaf(w[k], x[k], sum[r]);
        }
    }
    if (whole + lane < p.x.width) {
        const float w = widen(weight[whole + lane]);
#pragma unroll
        for (u32 r = 0; r < ROWS; r++) {
            if (first + r < count) sum[r] = fmaf(w, p.x.row(first + r)[whole + lane], sum[r]);
        }
    }
    const float bias = p.bias ? p.bias[o] : 0.0f;
#pragma unroll
    for (u32 r = 0; r < ROWS; r++) {
        if (first + r >= count) break;
        const float y = warp_sum(sum[r]) + bias;
        if (lane == 0) p.out.row(first + r)[o] = y;
    }
}

constexpr u32 TILE = 64, DEPTH = 16, FEW = 4;

template <class Weight> DEVICE void many(const LinearParams& p) {
    const u32 first_row = blockIdx.y * TILE, first_output = blockIdx.x * TILE;
    const u32 count = p.step.words[p.count];
    if (first_row >= count) return;
    // One input of all rows, or of all outputs, side by side; four more, so that the threads of a warp
    // that fill one hit different banks.
    SHARED(float, xs, [DEPTH][TILE + 4]);
    SHARED(float, ws, [DEPTH][TILE + 4]);

    // What a thread fills: four inputs of one row and of one output. What it adds up: 4 x 4 of the tile.
    const u32 line = threadIdx.x / 4, quarter = threadIdx.x % 4 * 4;
    const u32 my_row = threadIdx.x / 16 * 4, my_output = threadIdx.x % 16 * 4;
    const bool row_there = first_row + line < count, output_there = first_output + line < p.out.width;
    const float* x = p.x.row(row_there ? first_row + line : first_row);
    const u32 output = output_there ? first_output + line : first_output;
    const Weight* weight = (const Weight*)p.weight + (u64)output * p.weight_pitch;

    float sum[4][4] = {};
    for (u32 from = 0; from < p.x.width; from += DEPTH) {
        __syncthreads();
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            const u32 i = from + quarter + k;
            xs[quarter + k][line] = row_there && i < p.x.width ? x[i] : 0.0f;
            ws[quarter + k][line] = output_there && i < p.x.width ? widen(weight[i]) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (u32 k = 0; k < DEPTH; k++) {
            const float4 a = *(const float4*)&xs[k][my_row], b = *(const float4*)&ws[k][my_output];
            const float rows[4] = {a.x, a.y, a.z, a.w}, outputs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (u32 r = 0; r < 4; r++) {
#pragma unroll
                for (u32 o = 0; o < 4; o++) sum[r][o] = fmaf(rows[r], outputs[o], sum[r][o]);
            }
        }
    }
#pragma unroll
    for (u32 r = 0; r < 4; r++) {
        if (first_row + my_row + r >= count) break;
        float* out = p.out.row(first_row + my_row + r);
#pragma unroll
        for (u32 o = 0; o < 4; o++) {
            const u32 column = first_output + my_output + o;
            if (column < p.out.width) out[column] = sum[r][o] + (p.bias ? p.bias[column] : 0.0f);
        }
    }
}

KERNEL(256, linear_one_f32, LinearParams) { few<float, 1>(p); }
KERNEL(256, linear_one_f16, LinearParams) { few<f16, 1>(p); }
KERNEL(256, linear_one_bf16, LinearParams) { few<bf16, 1>(p); }
KERNEL(256, linear_few_f32, LinearParams) { few<float, FEW>(p); }
KERNEL(256, linear_few_f16, LinearParams) { few<f16, FEW>(p); }
KERNEL(256, linear_few_bf16, LinearParams) { few<bf16, FEW>(p); }
KERNEL(256, linear_many_f32, LinearParams) { many<float>(p); }
KERNEL(256, linear_many_f16, LinearParams) { many<f16>(p); }
KERNEL(256, linear_many_bf16, LinearParams) { many<bf16>(p); }
