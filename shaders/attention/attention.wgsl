// attention: softmax(q k^T * scale + mask) v, for one query row and one head a workgroup.
//
// Keys: those before the span from the pools, the span's own from the step's k and v rows, so that a
// long span never overwrites what its early rows still need. A window sees `window` keys back from the
// row, and the pinned positions; both parts are walked as one list.
// Tiling: LANES keys at a time, one a lane; then every lane sums its columns of v over the tile. The
// softmax is the running one (Milakov and Gimelshein 2018), accumulated in f32.
// Barriers: a reduction for the maximum and one for the sum, and two more, a tile.
// Limits: keys and values up to 256 wide; 8 storage buffers.
const LANES = 64u;
const OWN = 0x80000000u;
@group(0) @binding(2) var<storage, read> pages: array<u32>;              // [slots, pages_per_slot]
@group(0) @binding(3) var<storage, read> q: array<f32>;                  // [rows, q_pitch]
@group(0) @binding(4) var<storage, read> k: array<f32>;                  // [rows, k_pitch]
@group(0) @binding(5) var<storage, read> v: array<f32>;                  // [rows, v_pitch]
@group(0) @binding(8) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

var<workgroup> query: array<f32, WIDEST_HEAD>;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> places: array<u32, LANES>;   // where the value of each key of the tile begins

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let row = index / params.heads;
    let head = index % params.heads;
    let used = row < row_count();
    let entry = row_at(row);
    let span = span_at(entry.w);
    let position = entry.z;
    let kv_head = head / (params.heads / params.kv_heads);

    // The keys seen: [0, pinned) and [low, position], as one list.
    let window = select(params.window, params.decode_window, span.w == 1u);
    let low = max(params.pinned, position - min(position, window));
    let split = select(min(params.pinned, position + 1u), 0u, low <= params.pinned);
    let start = select(low, 0u, low <= params.pinned);
    let count = select(0u, split + position + 1u - min(start, position + 1u), used);

    for (var i = lane; i < params.key_width; i += LANES) {
        query[i] = q[row * params.q_pitch + params.q_offset + head * params.key_width + i] * params.scale;
    }
    workgroupBarrier();

    var highest = -3.0e38;
    var total = 0.0;
    var sums: array<f32, 4>;
    for (var tile = 0u; tile < count; tile += LANES) {
        let at = tile + lane;
        var score = -3.0e38;
        if at < count {
            let key_position = select(start + at - split, at, at < split);
            var dot_product = 0.0;
            if key_position >= span.z {
                let own = span.y + key_position - span.z;
                let key = own * params.k_pitch + params.k_offset + kv_head * params.key_width;
                for (var i = 0u; i < params.key_width; i++) { dot_product += query[i] * k[key + i]; }
                places[lane] = OWN | (own * params.v_pitch + params.v_offset + kv_head * params.value_width);
            } else {
                let pool_row = kv_row(entry.y, key_position) * params.kv_heads + kv_head;
                let key = pool_row * params.key_width;
                for (var i = 0u; i < params.key_width; i++) { dot_product += query[i] * load_key(key + i); }
                places[lane] = pool_row * params.value_width;
            }
            score = dot_product;
        }
        let new_highest = max(highest, reduce_max(lane, score));
        let rescale = exp(highest - new_highest);
        let weight = select(0.0, exp(score - new_highest), at < count);
        weights[lane] = weight;
        total = total * rescale + reduce_sum(lane, vec4(weight, 0.0, 0.0, 0.0)).x;
        highest = new_highest;
        let keys = min(LANES, count - tile);
        for (var i = 0u; i < 4u; i++) {
            let column = lane + i * LANES;
            if column >= params.value_width { break; }
            var sum = sums[i] * rescale;
            for (var key = 0u; key < keys; key++) {
                let place = places[key];
                var value: f32;
                if (place & OWN) != 0u { value = v[(place ^ OWN) + column]; } else { value = load_value(place + column); }
                sum += weights[key] * value;
            }
            sums[i] = sum;
        }
        workgroupBarrier();
    }
    if !used { return; }
    for (var i = 0u; i < 4u; i++) {
        let column = lane + i * LANES;
        if column >= params.value_width { break; }
        out[row * params.out_pitch + head * params.value_width + column] = sums[i] / total;
    }
}
