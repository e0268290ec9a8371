// attention by eight queries: softmax(q k^T * scale + mask) v, for queries that share their keys. A workgroup sees all of
// these (whole.wgsl), or, for the few rows of decode, a slice of them (slice.wgsl), so that a long context keeps more of a
// device busy than it has heads.
//
// Queries: the rows of a chunk times the heads of a group, in this order; a tile is eight that follow one another. A key
// and a value are read once for all of them. Which keys a row sees: attention.wgsl.
// Tiling: LANES keys at a time, one a lane; then a lane sums its column of v over the tile, for the eight. The words of
// q, the weights and the places of keys are loaded by eight lanes of a subgroup, and come to all of them by broadcasts.
// The softmax is the running one (Milakov and Gimelshein 2018); keys and values are walked as in FlashAttention (Dao et
// al. 2022, arXiv 2205.14135, algorithm 1), slices as in Flash-Decoding (Dao et al. 2023).
// Barriers: a maximum of eight numbers and one more, a tile of keys. 12 KiB of workgroup memory where LANES is 256.
// Limits: subgroups of eight lanes or more; heads of multiples of four columns that begin at such, values of LANES
// columns at most; 8 storage buffers.
const QUERIES = 8u;
@group(0) @binding(2) var<storage, read> pages: array<u32>;              // [slots, pages_per_slot]
@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;            // [rows, q_pitch]
@group(0) @binding(4) var<storage, read> k: array<vec4<f32>>;            // [rows, k_pitch]
@group(0) @binding(5) var<storage, read> v: array<f32>;                  // [rows, v_pitch]

var<workgroup> weights: array<Eight, LANES>;
var<workgroup> places: array<u32, LANES>;   // where the value of each key of the tile begins

// As in shared/eight_lanes.wgsl, of words.
fn low_words(value: u32) -> vec4<u32> {
    return vec4(subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u), subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u));
}
fn high_words(value: u32) -> vec4<u32> {
    return vec4(subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u), subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u));
}

// Products of one word of a key with that of each query, of which a lane has one.
fn word_products(mine: vec4<f32>, word: vec4<f32>) -> Eight {
    return Eight(
        mat4x4(low_lanes(mine.x), low_lanes(mine.y), low_lanes(mine.z), low_lanes(mine.w)) * word,
        mat4x4(high_lanes(mine.x), high_lanes(mine.y), high_lanes(mine.z), high_lanes(mine.w)) * word,
    );
}

fn sum_of(a: Eight, b: Eight) -> Eight { return Eight(a.low + b.low, a.high + b.high); }

// In place of the weight of a key that the query does not see: of its value, which need not be finite, nothing is taken.
const UNSEEN = -1.0;
fn weighed(weight: Eight, value: f32) -> Eight {
    return Eight(
        select(weight.low * value, vec4(0.0), weight.low < vec4(0.0)),
        select(weight.high * value, vec4(0.0), weight.high < vec4(0.0)),
    );
}

// The weighted values of a tile's keys, in one column of each query.
fn weighted_values(own: bool, keys: u32, column: u32, within_subgroup: u32) -> Eight {
    var sums: Eight;
    for (var key = 0u; key < keys; key += QUERIES) {
        let at = min(key + within_subgroup % QUERIES, keys - 1u);
        let past = key + within_subgroup % QUERIES >= keys;
        let place = places[at];
        let weight = weights[at];
        let low = select(weight.low, vec4(UNSEEN), past);
        let high = select(weight.high, vec4(UNSEEN), past);
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 0u), subgroupBroadcast(high, 0u)), value_at(own, subgroupBroadcast(place, 0u) + column)));
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 1u), subgroupBroadcast(high, 1u)), value_at(own, subgroupBroadcast(place, 1u) + column)));
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 2u), subgroupBroadcast(high, 2u)), value_at(own, subgroupBroadcast(place, 2u) + column)));
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 3u), subgroupBroadcast(high, 3u)), value_at(own, subgroupBroadcast(place, 3u) + column)));
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 4u), subgroupBroadcast(high, 4u)), value_at(own, subgroupBroadcast(place, 4u) + column)));
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 5u), subgroupBroadcast(high, 5u)), value_at(own, subgroupBroadcast(place, 5u) + column)));
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 6u), subgroupBroadcast(high, 6u)), value_at(own, subgroupBroadcast(place, 6u) + column)));
        sums = sum_of(sums, weighed(Eight(subgroupBroadcast(low, 7u), subgroupBroadcast(high, 7u)), value_at(own, subgroupBroadcast(place, 7u) + column)));
    }
    return sums;
}

fn value_at(own: bool, at: u32) -> f32 {
    if own { return v[at]; }
    return load_value(at);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) within_subgroup: u32,
) {
    let kv_head = workgroup.y / params.slices;
    let slice = workgroup.y % params.slices;
    let group = params.heads / params.kv_heads;
    let tiles = (CHUNK_ROWS * group + QUERIES - 1u) / QUERIES;
    for (var tile = workgroup.x; tile < chunk_count() * tiles; tile += workgroups.x) {
        // Chunks of one row have few tiles: the first ones of all chunks come first.
        let chunk = chunk_at(tile % chunk_count());
        let queries = chunk.y * group;
        let first = tile / chunk_count() * QUERIES;
        if first >= queries { continue; }
        let span = span_at(chunk.z);
        let window = select(params.window, params.decode_window, span.w == 1u);

        // The query that this lane loads for its subgroup, and the keys that each sees: [0, pinned) and [low, position].
        let mine = min(first + within_subgroup % QUERIES, queries - 1u);
        let my_row = chunk.x + mine / group;
        let my_position = span.z + my_row - span.y;
        let my_low = max(params.pinned, my_position - min(my_position, window));
        let q_at = (my_row * params.q_pitch + params.q_offset + (kv_head * group + mine % group) * params.key_width) / 4u;

        // The keys that any of them sees, as one list; those of the span's own rows come last.
        let top = span.z + (chunk.x + (min(first + QUERIES, queries) - 1u) / group) - span.y;
        let bottom_position = span.z + chunk.x + first / group - span.y;
        let bottom = max(params.pinned, bottom_position - min(bottom_position, window));
        let split = select(min(params.pinned, top + 1u), 0u, bottom <= params.pinned);
        let start = select(bottom, 0u, bottom <= params.pinned);
        let count = split + top + 1u - start;
        let of_slice = (count + params.slices * LANES - 1u) / (params.slices * LANES) * LANES;
        let first_key = min(slice * of_slice, count);
        let past = min(first_key + of_slice, count);
        let pool_count = select(min(split, span.z), split + span.z - start, start < span.z);

        var highest = Eight(vec4(-3.0e38), vec4(-3.0e38));
        var total: Eight;
        var sums: Eight;
        for (var part = 0u; part < 2u; part++) {
            let own = part == 1u;
            let begin = max(select(0u, pool_count, own), first_key);
            let end = min(select(pool_count, count, own), past);
            for (var at = begin; at < end; at += LANES) {
                let index = min(at + lane, end - 1u);
                let key_position = select(start + index - split, index, index < split);
                var scores: Eight;
                if own {
                    let row = span.y + key_position - span.z;
                    let key = (row * params.k_pitch + params.k_offset + kv_head * params.key_width) / 4u;
                    places[lane] = row * params.v_pitch + params.v_offset + kv_head * params.value_width;
                    for (var word = 0u; word < params.key_width / 4u; word++) {
                        scores = sum_of(scores, word_products(q[q_at + word], k[key + word]));
                    }
                } else {
                    let row = kv_row(span.x, key_position) * params.kv_heads + kv_head;
                    let key = row * params.key_width / 4u;
                    places[lane] = row * params.value_width;
                    for (var word = 0u; word < params.key_width / 4u; word++) {
                        scores = sum_of(scores, word_products(q[q_at + word], load_key_word(key + word)));
                    }
                }
                // What each query sees of this key.
                let there = at + lane < end;
                let pinned = key_position < params.pinned;
                let sees_low = vec4(there) & (vec4(key_position) <= low_words(my_position))
                    & (vec4(pinned) | (vec4(key_position) >= low_words(my_low)));
                let sees_high = vec4(there) & (vec4(key_position) <= high_words(my_position))
                    & (vec4(pinned) | (vec4(key_position) >= high_words(my_low)));
                scores.low = select(vec4(-3.0e38), params.scale * scores.low, sees_low);
                scores.high = select(vec4(-3.0e38), params.scale * scores.high, sees_high);

                let tops_now = max_of_eight(lane, scores);
                let low = max(highest.low, tops_now.low);
                let high = max(highest.high, tops_now.high);
                let rescale = Eight(exp(highest.low - low), exp(highest.high - high));
                let weight = Eight(
                    select(vec4(UNSEEN), exp(scores.low - low), sees_low),
                    select(vec4(UNSEEN), exp(scores.high - high), sees_high),
                );
                highest = Eight(low, high);
                weights[lane] = weight;
                workgroupBarrier();
                let more = weighted_values(own, min(LANES, end - at), min(lane, params.value_width - 1u), within_subgroup);
                sums = Eight(sums.low * rescale.low + more.low, sums.high * rescale.high + more.high);
                total.low = total.low * rescale.low + select(vec4(0.0), weight.low, sees_low);
                total.high = total.high * rescale.high + select(vec4(0.0), weight.high, sees_high);
                workgroupBarrier();
            }
        }
        let totals = sum_of_eight(lane, total);
        workgroupBarrier();
        if lane < params.value_width {
            for (var i = 0u; i < QUERIES; i++) {
                let query = first + i;
                if query < queries {
                    let row = chunk.x + query / group;
                    let head = kv_head * group + query % group;
                    if i < 4u { leave(row, head, slice, lane, highest.low[i], totals.low[i], sums.low[i]); }
                    else { leave(row, head, slice, lane, highest.high[i - 4u], totals.high[i - 4u], sums.high[i - 4u]); }
                }
            }
        }
    }
}
