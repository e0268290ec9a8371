// sample: chooses a token from every row of logits as its slot says; it stays in the slot for the next
// step, and goes to `results` for the host.
//   l' = penalties(l) + bias, of the tokens that the mask allows;  greedy: argmax l'.  Otherwise
//   x = l' / temperature, and among the x that top-k, top-p and min-p leave, argmax x - ln(e) with an
//   exponential random number e for every token.
// Nothing is chosen, and the slot is finished, where a logit is NaN or plus infinity, or all that may be chosen are
// minus infinity.
// sample_freeze, before a step: takes the rows out of spans that would feed a finished slot its own token,
// so that kernels that go over a span's rows change nothing there.
//
// Every filter is a threshold on x, and so on its key: the bits of x as an unsigned integer of the same
// order. Thresholds are found digit by digit (11 bits, 11, 10): a histogram over the tokens whose higher
// digits agree, of counts or of probabilities in units of 2^-31, walked from the top. Integer sums do not
// depend on the order of the threads: the same logits give the same token.
// Tiling: a block of 1024 threads an output row; threads stride over the vocabulary. Passes over the logits:
// 1 greedy, 2 with temperature alone, 3 more for top-k, 4 more for top-p. sample_freeze: a thread a span.
// Barriers: two a reduction, five a digit. Limits: ids below 2^32 - 1.
// Source: the order and the formulas of src/state/sampler.rs; the CPU reference, src/backend/cpu/sample.rs; the hash
// is PCG4D (Jarzynski and Olano 2020, "Hash Functions for GPU Rendering", JCGT 9(3)).
#include "prelude.cuh"

struct SampleParams {
    Step step;
    View logits;
    Sampler* samplers;  // [slots + 1]
    u32* counts;        // [slots + 1, logits.width]
    const float* biases;  // [slots + 1, logits.width]
    const u32* masks;   // [slots + 1, ceil(logits.width / 32)], a bit a token
    u32* results;       // [outputs]
};

constexpr u32 THREADS = 1024;
constexpr u32 BINS = 2048;

struct Best {
    float value;
    u32 id;
};

DEVICE Best better(Best a, Best b) {
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

DEVICE Best warp_best(Best best) {
#pragma unroll
    for (u32 step = WARP / 2; step > 0; step /= 2) {
        const Best other = {__shfl_xor_sync(ALL_LANES, best.value, step), __shfl_xor_sync(ALL_LANES, best.id, step)};
        best = better(best, other);
    }
    return best;
}

// The largest of the block; every thread gets it.
DEVICE Best block_best(Best best) {
    SHARED(float, warp_value, [WARP]);
    SHARED(u32, warp_id, [WARP]);
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    best = warp_best(best);
    __syncthreads();
    if (lane == 0) warp_value[warp] = best.value, warp_id[warp] = best.id;
    __syncthreads();
    return warp_best({warp_value[lane], warp_id[lane]});
}

// One output row and how its slot chooses.
struct Choice {
    const float* logits;
    const u32* counts;
    const float* biases;
    const u32* mask;
    u32 vocabulary;
    Sampler sampler;

    // Whether a token may be chosen.
    DEVICE_METHOD bool allowed(u32 id) const {
        return !sampler.masked || (mask[id / 32] >> (id % 32) & 1);
    }

    // The logit of a token after penalties and bias, over the temperature. Of one that may not be chosen the smallest.
    DEVICE_METHOD float value(u32 id) const {
        if (!allowed(id)) return -FURTHEST;
        float logit = logits[id];
        if (sampler.adjusts & PENALISED) {
            const u32 count = counts[id], chosen = count & ~SEEN;
            if (count) logit = logit > 0.0f ? logit / sampler.repetition : logit * sampler.repetition;
            logit -= sampler.frequency * (float)chosen;
            if (chosen) logit -= sampler.presence;
        }
        if (sampler.adjusts & BIASED) logit += biases[id];
        if (sampler.temperature > 0.0f) logit /= sampler.temperature;
        return fminf(fmaxf(logit, -FURTHEST), FURTHEST);
    }
};

// The bits of x as an integer of the same order.
DEVICE u32 key(float x) {
    const u32 bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

DEVICE u32 hash(u32 x, u32 y, u32 z, u32 w) {
    x = x * 1664525u + 1013904223u, y = y * 1664525u + 1013904223u;
    z = z * 1664525u + 1013904223u, w = w * 1664525u + 1013904223u;
    x += y * w, y += z * x, z += x * y, w += y * z;
    x ^= x >> 16, y ^= y >> 16, z ^= z >> 16, w ^= w >> 16;
    return x + y * w;
}

// The logarithm of an exponential random number for a token.
DEVICE float log_exponential(const Sampler& s, u32 id) {
    const float u = fminf(((float)hash(s.seed[0], s.seed[1], s.drawn, id) + 0.5f) / 4294967296.0f, 0.99999994f);
    return logf(-log1pf(-u));
}

// The lowest key that stays when, from the top, only `wanted` of what is at least `lowest` stays: tokens
// (`scale` is 0), or `share` of the probabilities, which are exp(x - most) * scale.
DEVICE u32 threshold(const Choice& row, u32 lowest, u32 wanted, float share, float most, float scale) {
    SHARED(u32, bins, [BINS]);
    SHARED(u32, sums, [THREADS]);
    SHARED(u32, found, [2]);
    u32 prefix = 0, known = 0;  // the digits found so far, and which bits those are
#pragma unroll 1
    for (u32 level = 0; level < 3; level++) {
        const u32 shift = level == 0 ? 21 : level == 1 ? 10 : 0, mask = level == 2 ? 1023 : BINS - 1;
        for (u32 i = threadIdx.x; i < BINS; i += THREADS) bins[i] = 0;
        __syncthreads();
        for (u32 id = threadIdx.x; id < row.vocabulary; id += THREADS) {
            const float x = row.value(id);
            const u32 k = key(x);
            if (k < lowest || (k & known) != prefix) continue;
            atomicAdd(&bins[(k >> shift) & mask], scale > 0.0f ? (u32)(expf(x - most) * scale + 0.5f) : 1u);
        }
        __syncthreads();
        // Sums from the top: thread 0 has the two highest bins.
        const u32 first = BINS - 1 - 2 * threadIdx.x, mine = bins[first] + bins[first - 1];
        sums[threadIdx.x] = mine;
        for (u32 step = 1; step < THREADS; step *= 2) {
            __syncthreads();
            const u32 before = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
            __syncthreads();
            sums[threadIdx.x] += before;
        }
        __syncthreads();
        const u32 total = sums[THREADS - 1];
        if (scale > 0.0f && level == 0) wanted = (u32)(share * (float)total);
        wanted = wanted < 1 ? 1 : wanted > total ? total : wanted;
        const u32 above = sums[threadIdx.x] - mine;
        if (above < wanted && sums[threadIdx.x] >= wanted) {
            const bool second = above + bins[first] < wanted;
            found[0] = first - second;
            found[1] = above + (second ? bins[first] : 0);
        }
        __syncthreads();
        prefix |= found[0] << shift;
        known |= mask << shift;
        wanted -= found[1];
        __syncthreads();
    }
    return prefix;
}

DEVICE u32 draw(const Choice& row, float most) {
    const Sampler& s = row.sampler;
    u32 lowest = 0;
    if (s.top_k > 0 && s.top_k < row.vocabulary) lowest = threshold(row, 0, s.top_k, 0.0f, most, 0.0f);
    if (s.top_p < 1.0f) {
        float mine = 0.0f;
        for (u32 id = threadIdx.x; id < row.vocabulary; id += THREADS) {
            const float x = row.value(id);
            if (key(x) >= lowest) mine += expf(x - most);
        }
        lowest = threshold(row, lowest, 0, s.top_p, most, 2147483648.0f / block_sum(mine));
    }
    if (s.min_p > 0.0f) {
        const u32 least = key(most + logf(s.min_p));
        lowest = least > lowest ? least : lowest;
    }
    Best mine = {-INFINITY, NO_TOKEN};
    for (u32 id = threadIdx.x; id < row.vocabulary; id += THREADS) {
        const float x = row.value(id);
        if (key(x) >= lowest) mine = better(mine, {x - log_exponential(s, id), id});
    }
    return block_best(mine).id;
}

KERNEL(1024, sample_f32, SampleParams) {
    const u32 o = blockIdx.x;
    if (o >= p.step.outputs()) return;
    const u32 r = p.step.output_row(o);
    const Span span = p.step.span(p.step.row(r).span);
    Sampler* sampler = p.samplers + span.slot;
    // A span without rows would have fed a finished slot.
    if (span.rows == 0) {
        if (threadIdx.x == 0) p.results[o] = sampler->finished == UNUSABLE ? NO_TOKEN : sampler->last_token;
        return;
    }
    const bool last = r + 1 == span.first_row + span.rows;
    u32* counts = p.counts + (u64)span.slot * p.logits.width;
    // Rows before a span's last choose for the host alone, greedily.
    const u32 width = p.logits.width, words = (width + 31) / 32;
    const float* biases = p.biases + (u64)span.slot * width;
    Choice row = {p.logits.row(o), counts, biases, p.masks + (u64)span.slot * words, width, {}};
    if (last) row.sampler = *sampler;

    Best best = {-INFINITY, NO_TOKEN};
    for (u32 id = threadIdx.x; id < row.vocabulary; id += THREADS) {
        const float logit = row.logits[id];
        if (logit == -INFINITY) continue;
        if (!(logit < INFINITY)) {
            best = {INFINITY, NO_TOKEN};  // wins against all
            break;
        }
        if (row.allowed(id)) best = better(best, {row.value(id), id});
    }
    best = block_best(best);
    const bool drawn = row.sampler.temperature > 0.0f && best.id != NO_TOKEN;
    const u32 token = drawn ? draw(row, best.value) : best.id;
    if (threadIdx.x > 0) return;

    p.results[o] = token;
    if (!last) return;
    if (token == NO_TOKEN) {
        sampler->finished = UNUSABLE;
        return;
    }
    sampler->last_token = token;
    sampler->drawn++;
    if (row.sampler.adjusts & PENALISED) counts[token]++;
    bool finished = row.sampler.drawn + 1 == row.sampler.limit;
    for (u32 i = 0; i < row.sampler.end_count; i++) finished |= row.sampler.ends[i] == token;
    sampler->finished = finished;
}

KERNEL(64, sample_freeze, SampleParams) {
    const u32 s = blockIdx.x * blockDim.x + threadIdx.x;
    if (s >= p.step.spans()) return;
    const Span span = p.step.span(s);
    const bool own = p.step.row(span.first_row).token == TOKEN_OF_SLOT;
    if (own && p.samplers[span.slot].finished) p.step.empty_span(s);
}
