// moe_route: the experts of a row, the best first, and their weights.
//   score = logit, or sigmoid(logit); compared is score + bias, in the best groups only
//   weights: the softmax, over the chosen logits or all, or scale sigmoid(logit), divided by (sum over the chosen +
//   epsilon) or not
//
// Tiling: one workgroup for one row. An expert's place is the number of those that beat it, which each lane
// counts for its own: no sorting, and ties fall as the ids do. Groups are placed in the same way, by the sum of
// their two best.
// Barriers: three or four. Limits: 1024 experts.
// Source: DeepSeek-AI 2024, arXiv 2412.19437, section 2.1.2 (the bias); the released modelling code for groups.
struct Params {
    experts: u32,
    n_group: u32,       // equal runs of experts
    topk_group: u32,    // groups that are looked at
    top_k: u32,         // experts that are chosen
    logits_pitch: u32,
    logits_offset: u32,
    out_pitch: u32,
    bias_at: u32,       // in `vectors`: [experts]; NONE: no bias
    sigmoid: u32,       // 1: weights are sigmoids, 0: a softmax
    normed: u32,        // 1: weights are divided by the sum over the chosen; 0: sigmoids are not, a softmax is over all
    outputs: u32,       // 1: the rows are outputs
    epsilon: f32,       // added to the sum of sigmoids
    scale: f32,
}
const LANES = 128u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;             // [rows, logits_pitch]
@group(0) @binding(3) var<storage, read> vectors: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]: ids, then weights

var<workgroup> scores: array<f32, MOST_EXPERTS>;
var<workgroup> worths: array<f32, MOST_EXPERTS>;    // of groups
var<workgroup> weights: array<f32, MOST_EXPERTS>;   // of the chosen, in their order

fn beats(other: f32, id: u32, mine: f32, me: u32) -> bool { return other > mine || (other == mine && id < me); }

fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

// Groups better than this one are fewer than are looked at.
fn is_seen(group: u32) -> bool {
    if params.topk_group == params.n_group { return true; }
    var better = 0u;
    for (var other = 0u; other < params.n_group; other++) {
        if beats(worths[other], other, worths[group], group) { better++; }
    }
    return better < params.topk_group;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wrapped(workgroup, workgroups);
    if row >= rows_in_use(params.outputs) { return; }
    let logits_at = row * params.logits_pitch + params.logits_offset;
    let out_at = row * params.out_pitch;
    for (var expert = lane; expert < params.experts; expert += LANES) {
        var score = logits[logits_at + expert];
        if params.sigmoid == 1u { score = sigmoid(score); }
        if params.bias_at != NONE { score += vectors[params.bias_at + expert]; }
        // Every place must be taken: what is not a number beats all others, so that it is not hidden.
        scores[expert] = select(clamp(score, -FURTHEST, FURTHEST), FURTHEST, is_nan(logits[logits_at + expert]));
    }
    workgroupBarrier();
    let size = params.experts / params.n_group;
    if params.topk_group < params.n_group {
        for (var group = lane; group < params.n_group; group += LANES) {
            var best = scores[group * size];
            var second = 0.0;
            for (var i = 1u; i < size; i++) {
                let score = scores[group * size + i];
                if i == 1u || score > second { second = score; }
                if second > best {
                    let better = second;
                    second = best;
                    best = better;
                }
            }
            worths[group] = best + second;
        }
    }
    workgroupBarrier();
    for (var expert = lane; expert < params.experts; expert += LANES) {
        if !is_seen(expert / size) { continue; }
        var place = 0u;
        for (var group = 0u; group < params.n_group; group++) {
            if !is_seen(group) { continue; }
            for (var other = group * size; other < (group + 1u) * size; other++) {
                if beats(scores[other], other, scores[expert], expert) { place++; }
            }
        }
        if place < params.top_k {
            out[out_at + place] = f32(expert);
            weights[place] = logits[logits_at + expert];
        }
    }
    workgroupBarrier();
    var highest = weights[0];
    var sum = 0.0;
    if params.sigmoid == 1u || params.normed == 1u {
        for (var i = 1u; i < params.top_k; i++) { highest = max(highest, weights[i]); }
        for (var i = 0u; i < params.top_k; i++) {
            sum += select(exp(weights[i] - highest), sigmoid(weights[i]), params.sigmoid == 1u);
        }
    } else {
        for (var i = 0u; i < params.experts; i++) { highest = max(highest, logits[logits_at + i]); }
        for (var i = 0u; i < params.experts; i++) { sum += exp(logits[logits_at + i] - highest); }
    }
    for (var i = lane; i < params.top_k; i += LANES) {
        var weight = exp(weights[i] - highest) / sum;
        if params.sigmoid == 1u {
            weight = sigmoid(weights[i]) * params.scale;
            if params.normed == 1u { weight /= sum + params.epsilon; }
        }
        // A driver whose exp(NaN) is a number must not hide it.
        out[out_at + params.top_k + i] = select(weight, weights[i], is_nan(weights[i]));
    }
}
