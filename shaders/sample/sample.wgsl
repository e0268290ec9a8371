// sample: chooses a token from a row of logits as its slot says, and leaves it in the slot.
//   l' = penalties(l) + bias, of the tokens that the mask allows;  greedy: argmax l'.  Otherwise
//   x = l' / temperature, and among the x that top-k, top-p and min-p leave, argmax x - ln(e) with an
//   exponential random number e for every token.
// Nothing is chosen, and the slot is finished, where a logit is NaN or plus infinity, or all that may be chosen are
// minus infinity.
// Where the slot verifies drafts, every output row chooses, each with the draw that it has if those before it in its span were
// chosen, and the slot's record stays: the host tells it what was. A draft's own rows take the largest and touch no slot.
//
// Every filter is a threshold on x, and so a threshold on its *key*: the bits of x as an unsigned integer
// of the same order. The k-th largest key, and the key at which the probabilities from the top make up
// top_p, are found digit by digit (11 bits, 11, 10): each pass adds up a histogram over the tokens whose
// higher digits agree, of counts or of probabilities in units of 2^-31, and walks it from the top. Integer
// sums do not depend on the order of the lanes: the same logits give the same token.
// Tiling: one workgroup an output row; lanes stride over the vocabulary. Passes over the logits: 1 greedy,
// 2 with temperature alone, 3 more for top-k, 4 more for top-p.
// Barriers: a tree per maximum, eleven per digit. Limits: 11 KiB of workgroup memory.
// Source: the order and the formulas of src/state/sampler.rs; the hash is PCG4D (Jarzynski and Olano 2020,
// "Hash Functions for GPU Rendering", JCGT 9(3)).
struct Params {
    vocabulary: u32,
    pitch: u32,
    draft: u32,                 // 1: the rows are a draft's
}
const VERIFYING = 2u;           // in MASKED: the slot verifies drafts, and has no mask
const LANES = 256u;
const BINS = 2048u;
const BINS_PER_LANE = BINS / LANES;
const WORSE = 3.402e38;         // than any x: a logit that is NaN or plus infinity
const INFINITY = 0x7f800000u;
const MINUS_INFINITY = 0xff800000u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;             // [outputs, pitch]
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;      // [outputs]
@group(0) @binding(4) var<storage, read_write> samplers: array<u32>;     // [slots + 1, SAMPLER_WORDS]
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;       // [slots + 1, vocabulary]
@group(0) @binding(6) var<storage, read> biases: array<f32>;             // [slots + 1, vocabulary]
@group(0) @binding(7) var<storage, read> masks: array<u32>;              // [slots + 1, ceil(vocabulary / 32)], a bit a token

// A slot's record, read once.
struct Sampler {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    frequency: f32,
    presence: f32,
    adjusts: u32,
    seed: vec2<u32>,
    drawn: u32,
    masked: bool,
}
struct Best {
    value: f32,
    id: u32,
}
struct Digit {
    bin: u32,
    above: u32,         // the sum of the bins above it
}
var<workgroup> sampler: Sampler;
var<workgroup> best_value: array<f32, LANES>;
var<workgroup> best_id: array<u32, LANES>;
var<workgroup> best: Best;
var<workgroup> bins: array<atomic<u32>, BINS>;
var<workgroup> sums: array<u32, LANES>;
var<workgroup> digit: Digit;

fn read_f32(at: u32) -> f32 { return bitcast<f32>(samplers[at]); }

fn read_sampler(at: u32) -> Sampler {
    return Sampler(
        read_f32(at + TEMPERATURE), samplers[at + TOP_K], read_f32(at + TOP_P), read_f32(at + MIN_P),
        read_f32(at + REPETITION), read_f32(at + FREQUENCY), read_f32(at + PRESENCE), samplers[at + ADJUSTS],
        vec2(samplers[at + SEED], samplers[at + SEED + 1u]), samplers[at + DRAWN], samplers[at + MASKED] == 1u,
    );
}

// Outputs of an output's span before it.
fn outputs_before(output: u32) -> u32 {
    let span = row_at(output_row(output)).w;
    var first = output;
    while first > 0u && row_at(output_row(first - 1u)).w == span { first--; }
    return output - first;
}

// Whether a token may be chosen.
fn allowed(s: Sampler, slot: u32, id: u32) -> bool {
    if !s.masked { return true; }
    let words = (params.vocabulary + 31u) / 32u;
    return ((masks[slot * words + id / 32u] >> (id % 32u)) & 1u) != 0u;
}

// The logit of a token after penalties and bias, over the temperature. Of one that may not be chosen the smallest.
fn value(s: Sampler, row: u32, slot: u32, id: u32) -> f32 {
    if !allowed(s, slot, id) { return -FURTHEST; }
    var logit = logits[row * params.pitch + id];
    if (s.adjusts & PENALISED) != 0u {
        let count = counts[slot * params.vocabulary + id];
        let chosen = count & ~SEEN;
        if count > 0u { logit = select(logit * s.repetition, logit / s.repetition, logit > 0.0); }
        logit -= s.frequency * f32(chosen) + select(0.0, s.presence, chosen > 0u);
    }
    if (s.adjusts & BIASED) != 0u { logit += biases[slot * params.vocabulary + id]; }
    if s.temperature > 0.0 { logit /= s.temperature; }
    return clamp(logit, -FURTHEST, FURTHEST);
}

// The bits of x as an integer of the same order.
fn key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn hash(words: vec4<u32>) -> u32 {
    var v = words * 1664525u + 1013904223u;
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    v ^= v >> vec4(16u);
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    return v.x;
}

// The logarithm of an exponential random number for a token: ln(-ln(1 - u)).
fn log_exponential(s: Sampler, id: u32) -> f32 {
    let u = min((f32(hash(vec4(s.seed, s.drawn, id))) + 0.5) / 4294967296.0, 0.99999994);
    // Small ones decide: 1 - u would lose their digits.
    if u < 0.01 { return log(u * (1.0 + u * (0.5 + u * (1.0 / 3.0 + 0.25 * u)))); }
    return log(-log(1.0 - u));
}

// The largest of all lanes' values; the lowest id among equals. The same for every lane.
fn best_of(lane: u32, mine: Best) -> Best {
    workgroupBarrier();
    best_value[lane] = mine.value;
    best_id[lane] = mine.id;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = best_value[lane + half];
            let other_id = best_id[lane + half];
            if other > best_value[lane] || (other == best_value[lane] && other_id < best_id[lane]) {
                best_value[lane] = other;
                best_id[lane] = other_id;
            }
        }
    }
    if lane == 0u { best = Best(best_value[0], best_id[0]); }
    return workgroupUniformLoad(&best);
}

fn better(a: Best, value: f32, id: u32) -> Best {
    if value > a.value || a.id == NO_TOKEN { return Best(value, id); }
    return a;
}

// The sum of all lanes' numbers. The same for every lane.
fn sum_of(lane: u32, mine: f32) -> f32 {
    workgroupBarrier();
    best_value[lane] = mine;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { best_value[lane] += best_value[lane + half]; }
    }
    if lane == 0u { best.value = best_value[0]; }
    return workgroupUniformLoad(&best).value;
}

// From the top, the bin in which the sum reaches `wanted`. A lane has neighbouring bins, lane 0 the highest.
fn find_digit(lane: u32, wanted: u32) -> Digit {
    let first = BINS - 1u - lane * BINS_PER_LANE;
    var mine = 0u;
    for (var i = 0u; i < BINS_PER_LANE; i++) { mine += atomicLoad(&bins[first - i]); }
    sums[lane] = mine;
    for (var step = 1u; step < LANES; step *= 2u) {
        workgroupBarrier();
        var before = 0u;
        if lane >= step { before = sums[lane - step]; }
        workgroupBarrier();
        sums[lane] += before;
    }
    workgroupBarrier();
    var above = sums[lane] - mine;
    let goal = min(wanted, sums[LANES - 1u]);
    if above < goal && sums[lane] >= goal {
        var bin = first;
        while above + atomicLoad(&bins[bin]) < goal {
            above += atomicLoad(&bins[bin]);
            bin--;
        }
        digit = Digit(bin, above);
    }
    return workgroupUniformLoad(&digit);
}

// The lowest key that stays when, from the top, only `part` of what is at least `lowest` stays: `part` tokens
// (`scale` is 0), or `share` of the probabilities, which are exp(x - most) * scale.
fn threshold(
    lane: u32, row: u32, slot: u32, s: Sampler, lowest: u32, part: u32, share: f32, most: f32, scale: f32,
) -> u32 {
    var prefix = 0u;        // the digits found so far
    var known = 0u;         // which bits those are
    var wanted = part;
    for (var level = 0u; level < 3u; level++) {
        let shift = array(21u, 10u, 0u)[level];
        for (var i = lane; i < BINS; i += LANES) { atomicStore(&bins[i], 0u); }
        workgroupBarrier();
        for (var id = lane; id < params.vocabulary; id += LANES) {
            let x = value(s, row, slot, id);
            let k = key(x);
            if k >= lowest && (k & known) == prefix {
                var amount = 1u;
                if scale > 0.0 { amount = u32(exp(x - most) * scale + 0.5); }
                atomicAdd(&bins[(k >> shift) & select(BINS - 1u, 1023u, level == 2u)], amount);
            }
        }
        workgroupBarrier();
        if scale > 0.0 && level == 0u {
            // What the probabilities really add up to, in their units.
            var mine = 0u;
            for (var i = 0u; i < BINS_PER_LANE; i++) { mine += atomicLoad(&bins[lane * BINS_PER_LANE + i]); }
            wanted = max(1u, u32(share * sum_of(lane, f32(mine))));
        }
        let found = find_digit(lane, wanted);
        prefix |= found.bin << shift;
        known |= select(BINS - 1u, 1023u, level == 2u) << shift;
        wanted -= min(wanted, found.above);
        workgroupBarrier();
    }
    return prefix;
}

fn draw(lane: u32, row: u32, slot: u32, s: Sampler, largest: f32) -> u32 {
    var lowest = 0u;
    if s.top_k > 0u && s.top_k < params.vocabulary {
        lowest = threshold(lane, row, slot, s, 0u, s.top_k, 0.0, largest, 0.0);
    }
    if s.top_p < 1.0 {
        var mine = 0.0;
        for (var id = lane; id < params.vocabulary; id += LANES) {
            let x = value(s, row, slot, id);
            if key(x) >= lowest { mine += exp(x - largest); }
        }
        let scale = 2147483648.0 / sum_of(lane, mine);
        lowest = threshold(lane, row, slot, s, lowest, 0u, s.top_p, largest, scale);
    }
    if s.min_p > 0.0 { lowest = max(lowest, key(largest + log(s.min_p))); }
    var mine = Best(-FURTHEST, NO_TOKEN);
    for (var id = lane; id < params.vocabulary; id += LANES) {
        let x = value(s, row, slot, id);
        if key(x) >= lowest { mine = better(mine, x - log_exponential(s, id), id); }
    }
    return best_of(lane, mine).id;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let output = workgroup.x;
    if output >= output_count() { return; }
    let row = output_row(output);
    let span = span_at(row_at(row).w);
    let slot = span.x;
    let at = slot * SAMPLER_WORDS;
    // A span without rows would have fed a finished slot.
    if span.w == 0u {
        if lane == 0u {
            sampled[output] = select(samplers[at + LAST_TOKEN], NO_TOKEN, samplers[at + FINISHED] == UNUSABLE);
        }
        return;
    }
    let last = row + 1u == span.y + span.w;
    let verifying = samplers[at + MASKED] == VERIFYING;
    // Rows before a span's last choose for the host alone, greedily, where no draft is verified.
    if lane == 0u {
        sampler = Sampler(0.0, 0u, 1.0, 0.0, 1.0, 0.0, 0.0, 0u, vec2(0u), 0u, false);
        if (last || verifying) && params.draft == 0u { sampler = read_sampler(at); }
        if verifying { sampler.drawn += outputs_before(output); }
    }
    let s = workgroupUniformLoad(&sampler);
    var mine = Best(-FURTHEST, NO_TOKEN);
    for (var id = lane; id < params.vocabulary; id += LANES) {
        // As bits: WGSL promises nothing of comparisons with what is not finite.
        let bits = bitcast<u32>(logits[output * params.pitch + id]);
        if bits == MINUS_INFINITY { continue; }
        if (bits & INFINITY) == INFINITY {
            mine = Best(WORSE, NO_TOKEN);
            break;
        }
        if allowed(s, slot, id) { mine = better(mine, value(s, output, slot, id), id); }
    }
    let largest = best_of(lane, mine);
    var token = largest.id;
    if s.temperature > 0.0 && token != NO_TOKEN { token = draw(lane, output, slot, s, largest.value); }

    if lane > 0u { return; }
    sampled[output] = token;
    if !last || verifying || params.draft != 0u { return; }
    if token == NO_TOKEN {
        samplers[at + FINISHED] = UNUSABLE;
        return;
    }
    samplers[at + LAST_TOKEN] = token;
    samplers[at + DRAWN] = s.drawn + 1u;
    if (s.adjusts & PENALISED) != 0u { counts[slot * params.vocabulary + token] += 1u; }
    var finished = s.drawn + 1u == samplers[at + LIMIT];
    for (var i = 0u; i < samplers[at + END_COUNT]; i++) { finished = finished || samplers[at + ENDS + i] == token; }
    samplers[at + FINISHED] = u32(finished);
}
