// sample: the id of the largest logit of every output row; it stays in the row's slot for the next step,
// and goes to `results` for the host. The lowest id wins a tie; what is not a number never wins.
//
// Tiling: a block of 1024 threads an output row; a thread keeps the best of every 1024th logit, then warps
// reduce by shuffles, then the first warp reduces the warps. Barriers: one, before the first warp reads.
// Limits: ids below 2^32 - 1. Source: the twin, src/backend/cpu/sample.rs.
#include "prelude.cuh"

struct SampleParams {
    Step step;
    View logits;
    u32* sampled;  // [slots + 1]
    u32* results;  // [outputs]
};

struct Best {
    float logit;
    u32 id;
};

DEVICE Best better(Best a, Best b) {
    return b.logit > a.logit || (b.logit == a.logit && b.id < a.id) ? b : a;
}

DEVICE Best warp_best(Best best) {
#pragma unroll
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        const Best other = {__shfl_xor_sync(ALL_LANES, best.logit, step), __shfl_xor_sync(ALL_LANES, best.id, step)};
        best = better(best, other);
    }
    return best;
}

KERNEL(1024, sample_f32, SampleParams) {
    SHARED(float, warp_logit, [WARP]);
    SHARED(u32, warp_id, [WARP]);
    const u32 o = blockIdx.x, outputs = p.step.outputs();
    if (o >= outputs) return;
    const float* logits = p.logits.row(o);
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;

    // Where nothing is larger than minus infinity, the answer is id 0.
    Best best = {-INFINITY, 0};
    for (u32 id = threadIdx.x; id < p.logits.width; id += blockDim.x) {
        if (logits[id] > best.logit) best = {logits[id], id};
    }
    best = warp_best(best);
    if (lane == 0) warp_logit[warp] = best.logit, warp_id[warp] = best.id;
    __syncthreads();
    if (warp > 0) return;
    best = lane < blockDim.x / WARP ? Best{warp_logit[lane], warp_id[lane]} : Best{-INFINITY, 0};
    best = warp_best(best);
    if (lane > 0) return;

    p.results[o] = best.id;
    // Of several outputs of one slot, the last one's token is the slot's.
    const u32 slot = p.step.row(p.step.output_row(o)).slot;
    if (o + 1 == outputs || p.step.row(p.step.output_row(o + 1)).slot != slot) p.sampled[slot] = best.id;
}
