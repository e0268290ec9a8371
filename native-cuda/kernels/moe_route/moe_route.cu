// moe_route: the experts of a row, the best first, and their weights.
//   score = logit, or sigmoid(logit); compared is score + bias, in the best groups only
//   weights: the softmax, over the chosen logits or all, or scale sigmoid(logit), divided by (sum over the chosen +
//   epsilon) or not
//
// Tiling: a block a row. An expert's place is the number of those that beat it, which each thread counts for its
// own experts: no sorting, and ties fall as the ids do. Groups are placed in the same way, by the sum of their two
// best. Barriers: three.
// Limits: 1024 experts. Source: the CPU reference, src/backend/cpu/moe_route.rs.
#include "prelude.cuh"

struct MoeRouteParams {
    Step step;
    View logits;        // [rows, experts]
    View out;           // [rows, 2 * top]: ids, then weights
    const float* bias;  // [experts] or null
    u32 count;          // header word that counts the rows
    u32 n_group;
    u32 topk_group;
    u32 sigmoid;  // 1: weights are sigmoids, 0: a softmax
    u32 normed;   // 1: weights are divided by the sum over the chosen; 0: sigmoids are not, a softmax is over all
    float epsilon;  // added to the sum of sigmoids
    float scale;
};

DEVICE bool beats(float other, u32 id, float mine, u32 me) { return other > mine || (other == mine && id < me); }

KERNEL(128, moe_route_f32, MoeRouteParams) {
    SHARED(float, scores, [MOST_EXPERTS]);
    SHARED(float, worths, [MOST_EXPERTS]);   // of groups
    SHARED(float, weights, [MOST_EXPERTS]);  // of the chosen, in their order
    const u32 r = blockIdx.x;
    if (r >= p.step.words[p.count]) return;
    const u32 experts = p.logits.width, top = p.out.width / 2, size = experts / p.n_group;
    const float* logits = p.logits.row(r);
    float* out = p.out.row(r);
    for (u32 expert = threadIdx.x; expert < experts; expert += blockDim.x) {
        const float score = p.sigmoid ? apply(3, logits[expert]) : logits[expert];
        const float sum = p.bias ? score + p.bias[expert] : score;
        // Every place must be taken: what is not a number beats all others, so that it is not hidden.
        scores[expert] = sum < FURTHEST ? fmaxf(sum, -FURTHEST) : FURTHEST;
    }
    for (u32 i = threadIdx.x; i < top; i += blockDim.x) weights[i] = 0.0f;
    __syncthreads();
    for (u32 group = threadIdx.x; group < p.n_group; group += blockDim.x) {
        const float* of_group = scores + group * size;
        float best = of_group[0], second = 0.0f;
        for (u32 i = 1; i < size; i++) {
            if (i == 1 || of_group[i] > second) second = of_group[i];
            if (second > best) {
                const float better = second;
                second = best, best = better;
            }
        }
        worths[group] = best + second;
    }
    __syncthreads();
    // Groups better than this one are fewer than are looked at.
    const auto is_seen = [&](u32 group) {
        if (p.topk_group == p.n_group) return true;
        u32 better = 0;
        for (u32 other = 0; other < p.n_group; other++) better += beats(worths[other], other, worths[group], group);
        return better < p.topk_group;
    };
    for (u32 expert = threadIdx.x; expert < experts; expert += blockDim.x) {
        if (!is_seen(expert / size)) continue;
        u32 place = 0;
        for (u32 group = 0; group < p.n_group; group++) {
            if (!is_seen(group)) continue;
            for (u32 other = group * size; other < (group + 1) * size; other++) {
                place += beats(scores[other], other, scores[expert], expert);
            }
        }
        if (place < top) {
            out[place] = (float)expert;
            weights[place] = logits[expert];
        }
    }
    __syncthreads();
    // Summed over: the chosen, or all.
    const bool chosen = p.sigmoid || p.normed;
    const float* over = chosen ? weights : logits;
    const u32 count = chosen ? top : experts;
    float highest = over[0], sum = 0.0f;
    for (u32 i = 1; i < count; i++) highest = fmaxf(highest, over[i]);
    for (u32 i = 0; i < count; i++) sum += p.sigmoid ? apply(3, over[i]) : expf(over[i] - highest);
    for (u32 i = threadIdx.x; i < top; i += blockDim.x) {
        float weight = p.sigmoid ? apply(3, weights[i]) * p.scale : expf(weights[i] - highest) / sum;
        if (p.sigmoid && p.normed) weight /= sum + p.epsilon;
        out[top + i] = weight;
    }
}
