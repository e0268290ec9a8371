// gated_delta in chunks, 3 of 3: the rows of the result, by small matrix products. With the chunk's errors E,
// which lie where the result goes, and the state S that it begins with,
//   out = scale (diag(exp(G)) Q S + M E),   M_ij = (q_i . k_j) exp(G_i - G_j) for j <= i, otherwise 0.
// The diagonal belongs to it: a row reads the state after its own change.
//
// Tiling: one workgroup for one head of one chunk. M (32 x 32) is made once; then the columns of the result
// go by in blocks of 32, each lane making four rows of one. All operands come through workgroup memory, in
// tiles of 16 keys. Barriers: two a tile; E of a block is read by all lanes before any of it is overwritten.
// Limits: 12.5 KiB of workgroup memory; any width of keys and values.
// Source: Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464, section 3.3.
const LANES = 256u;
const TILE = 16u;
@group(0) @binding(2) var<storage, read> q: array<f32>;                  // [rows, q_pitch], normed
@group(0) @binding(3) var<storage, read> k: array<f32>;                  // [rows, k_pitch], normed
@group(0) @binding(4) var<storage, read> scratch: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

var<workgroup> queries: array<f32, CHUNK_ROWS * TILE>;      // [rows, keys]
var<workgroup> others: array<f32, CHUNK_ROWS * TILE>;       // keys [rows, keys], or states [keys, columns]
var<workgroup> mixing: array<f32, CHUNK_ROWS * CHUNK_ROWS>; // M
var<workgroup> errors: array<f32, CHUNK_ROWS * CHUNK_ROWS>; // E: [rows, columns of the block]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let which = index / params.heads;
    let head = index % params.heads;
    if which >= long_chunk_count() { return; }
    let chunk = chunk_at(which);
    load_gates(lane, head, chunk);

    // Rows `first + 8 n`, and one column, of whatever is 32 x 32.
    let here = lane % CHUNK_ROWS;
    let first = lane / CHUNK_ROWS;
    let q_from = chunk.x * params.q_pitch + params.q_offset + key_column(head);
    let k_from = chunk.x * params.k_pitch + params.k_offset + key_column(head);
    var products = vec4(0.0);
    for (var base = 0u; base < params.keys; base += TILE) {
        for (var i = lane; i < CHUNK_ROWS * TILE; i += LANES) {
            let row = i / TILE;
            let key = base + i % TILE;
            var query = 0.0;
            var other = 0.0;
            if row < chunk.y && key < params.keys {
                query = q[q_from + row * params.q_pitch + key];
                other = k[k_from + row * params.k_pitch + key];
            }
            queries[i] = query;
            others[i] = other;
        }
        workgroupBarrier();
        for (var i = 0u; i < TILE; i++) {
            let at = first * TILE + i;
            products += others[here * TILE + i]
                * vec4(queries[at], queries[at + 8u * TILE], queries[at + 16u * TILE], queries[at + 24u * TILE]);
        }
        workgroupBarrier();
    }
    for (var n = 0u; n < 4u; n++) {
        let row = first + 8u * n;
        var value = 0.0;
        if here <= row { value = products[n] * exp(sums[row] - sums[here]); }
        mixing[row * CHUNK_ROWS + here] = value;
    }

    let s_from = index * params.keys * params.values;
    for (var block = 0u; block < params.values; block += CHUNK_ROWS) {
        let column = block + here;
        let used = column < params.values;
        let to = chunk.x * params.out_pitch + head * params.values + column;
        for (var n = 0u; n < 4u; n++) {
            let row = first + 8u * n;
            var value = 0.0;
            if used && row < chunk.y { value = out[to + row * params.out_pitch]; }
            errors[row * CHUNK_ROWS + here] = value;
        }
        var carried = vec4(0.0);
        for (var base = 0u; base < params.keys; base += TILE) {
            for (var i = lane; i < CHUNK_ROWS * TILE; i += LANES) {
                let row = i / TILE;
                let key = base + i % TILE;
                var value = 0.0;
                if row < chunk.y && key < params.keys { value = q[q_from + row * params.q_pitch + key]; }
                queries[i] = value;
                let state_key = base + i / CHUNK_ROWS;
                var s = 0.0;
                if used && state_key < params.keys { s = scratch[s_from + state_key * params.values + column]; }
                others[i] = s;
            }
            workgroupBarrier();
            for (var i = 0u; i < TILE; i++) {
                let at = first * TILE + i;
                carried += others[i * CHUNK_ROWS + here]
                    * vec4(queries[at], queries[at + 8u * TILE], queries[at + 16u * TILE], queries[at + 24u * TILE]);
            }
            workgroupBarrier();
        }
        for (var n = 0u; n < 4u; n++) {
            let row = first + 8u * n;
            var sum = exp(sums[row]) * carried[n];
            for (var i = 0u; i <= row; i++) { sum += mixing[row * CHUNK_ROWS + i] * errors[i * CHUNK_ROWS + here]; }
            if used && row < chunk.y { out[to + row * params.out_pitch] = params.scale * sum; }
        }
        workgroupBarrier();
    }
}
