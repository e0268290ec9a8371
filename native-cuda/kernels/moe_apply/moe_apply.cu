// moe_apply: out[r] = sum_e weight_e down_e h_e over the experts that a row chose, with
// h_e = function(up_e x[r]), or function(first half) * second half if `gated`. Two kernels:
//   up:   hidden[pair, o] = sum_i up[e, o, i] x[r, i], where a pair is a row and one of its experts
//   down: the function on the way in, and the weighted sum
//
// Tiling: a warp an output, 8 warps a block; each lane takes 8 neighbouring weights at a time, then the warp adds
// up. blockIdx.y strides over pairs, or rows. Only rows of chosen experts are ever read; rows that chose the same
// expert read it again (from the cache): sorting by expert is not here yet. No barriers.
// Limits: as linear's. Source: the CPU reference, src/backend/cpu/moe_apply.rs.
#include "prelude.cuh"

struct MoeApplyParams {
    Step step;
    View x;
    View routes;         // [rows, 2 * top]: ids, then weights
    View out;            // [rows, outputs]
    const void* weight;  // [experts * width, inputs], rows `weight_pitch` numbers apart
    float* hidden;       // [capacity * top, hidden_pitch]
    u32 weight_pitch;
    u32 hidden_pitch;
    u32 experts;
    u32 width;   // rows of the weight an expert has
    u32 inputs;  // columns of the weight
    u32 count;   // header word that counts the rows
    u32 function;
    u32 gated;
};

// The sum over this lane's part of a weight's row, with inputs eight at a time and the last ones alone.
template <class Weight, class Load> DEVICE float product(const Weight* weight, u32 inputs, u32 lane, Load input) {
    float sum = 0.0f;
    const u32 whole = inputs / 8 * 8;
    for (u32 i = lane * 8; i < whole; i += WARP * 8) {
        float w[8];
        load8(weight + i, w);
#pragma unroll
        for (u32 k = 0; k < 8; k++) sum = fmaf(w[k], input(i + k), sum);
    }
    if (whole + lane < inputs) sum = fmaf(widen(weight[whole + lane]), input(whole + lane), sum);
    return sum;
}

template <class Weight> DEVICE void up(const MoeApplyParams& p) {
    const u32 lane = threadIdx.x % WARP, o = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    const u32 top = p.routes.width / 2, pairs = p.step.words[p.count] * top;
    if (o >= p.width) return;
    for (u32 pair = blockIdx.y; pair < pairs; pair += gridDim.y) {
        const u32 expert = (u32)p.routes.row(pair / top)[pair % top];
        if (expert >= p.experts) continue;
        const float* x = p.x.row(pair / top);
        const Weight* weight = (const Weight*)p.weight + ((u64)expert * p.width + o) * p.weight_pitch;
        const float y = warp_sum(product(weight, p.inputs, lane, [&](u32 i) { return x[i]; }));
        if (lane == 0) p.hidden[(u64)pair * p.hidden_pitch + o] = y;
    }
}

template <class Weight> DEVICE void down(const MoeApplyParams& p) {
    const u32 lane = threadIdx.x % WARP, o = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    const u32 top = p.routes.width / 2, rows = p.step.words[p.count];
    if (o >= p.width) return;
    for (u32 r = blockIdx.y; r < rows; r += gridDim.y) {
        const float* routes = p.routes.row(r);
        float sum = 0.0f;
        for (u32 place = 0; place < top; place++) {
            const u32 expert = (u32)routes[place];
            if (expert >= p.experts) continue;
            const float* hidden = p.hidden + (u64)(r * top + place) * p.hidden_pitch;
            const Weight* weight = (const Weight*)p.weight + ((u64)expert * p.width + o) * p.weight_pitch;
            const auto inner = [&](u32 i) {
                const float y = apply(p.function, hidden[i]);
                return p.gated ? y * hidden[p.inputs + i] : y;
            };
            sum = fmaf(routes[top + place], product(weight, p.inputs, lane, inner), sum);
        }
        sum = warp_sum(sum);
        if (lane == 0) p.out.row(r)[o] = sum;
    }
}

KERNEL(256, moe_up_f32, MoeApplyParams) { up<float>(p); }
KERNEL(256, moe_up_f16, MoeApplyParams) { up<f16>(p); }
KERNEL(256, moe_up_bf16, MoeApplyParams) { up<bf16>(p); }
KERNEL(256, moe_down_f32, MoeApplyParams) { down<float>(p); }
KERNEL(256, moe_down_f16, MoeApplyParams) { down<f16>(p); }
KERNEL(256, moe_down_bf16, MoeApplyParams) { down<bf16>(p); }
