// gated_delta, one row after the other: for spans that fit one chunk. With the decay D = exp(g),
//   e[j] = B (v[j] - D sum_i s[i, j] k[i]);   s[i, j] <- D s[i, j] + k[i] e[j]
//   out[j] = scale sum_i s[i, j] q[i] = scale (D sum_i (old s)[i, j] q[i] + (q . k) e[j])
// so that a row needs one pass to read the state, with both vectors at once, and one to change it.
//
// Tiling: one workgroup for 32 value columns of one head of one span. A lane owns one column's every eighth
// state, in the buffer: it alone reads and writes them, in whatever number there are.
// Barriers: two a row. Limits: none; 4 KiB of workgroup memory.
// Source: Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464, eq. 10, with the decay moved out of the sums.
const COLUMNS = 32u;
const PARTS = 8u;
const LANES = COLUMNS * PARTS;
@group(0) @binding(2) var<storage, read> q: array<f32>;                  // [rows, q_pitch], normed
@group(0) @binding(3) var<storage, read> k: array<f32>;                  // [rows, k_pitch], normed
@group(0) @binding(4) var<storage, read> v: array<f32>;                  // [rows, v_pitch]
@group(0) @binding(5) var<storage, read> scratch: array<f32>;
@group(0) @binding(6) var<storage, read_write> state: array<f32>;        // [slots + 1, heads, keys, values]
@group(0) @binding(7) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

var<workgroup> partial: array<vec4<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let blocks = (params.values + COLUMNS - 1u) / COLUMNS;
    let which = index / (params.heads * blocks);
    let head = index / blocks % params.heads;
    if which >= span_count() { return; }
    let span = span_at(which);
    if span.w > CHUNK_ROWS { return; }
    let part = lane / COLUMNS;
    let column = index % blocks * COLUMNS + lane % COLUMNS;
    // Lanes past the last column do another's sums again, and write nothing.
    let own = min(column, params.values - 1u);
    let at = (span.x * params.heads + head) * params.keys * params.values + own;
    for (var row = span.y; row < span.y + span.w; row++) {
        let q_from = row * params.q_pitch + params.q_offset + key_column(head);
        let k_from = row * params.k_pitch + params.k_offset + key_column(head);
        // s . k, s . q and q . k, as far as this lane has them.
        var sums = vec4(0.0);
        for (var i = part; i < params.keys; i += PARTS) {
            let s = state[at + i * params.values];
            let key = k[k_from + i];
            let query = q[q_from + i];
            sums += vec4(s * key, s * query, query * key, 0.0);
        }
        partial[lane] = sums;
        workgroupBarrier();
        var total = vec4(0.0);
        for (var other = lane % COLUMNS; other < LANES; other += COLUMNS) { total += partial[other]; }
        workgroupBarrier();
        let gates = params.gates_at + 2u * (row * params.heads + head);
        let decay = exp(scratch[gates]);
        let value = v[row * params.v_pitch + params.v_offset + head * params.values + own];
        let error = scratch[gates + 1u] * (value - decay * total.x);
        if column < params.values {
            for (var i = part; i < params.keys; i += PARTS) {
                state[at + i * params.values] = decay * state[at + i * params.values] + k[k_from + i] * error;
            }
            if part == 0u {
                out[row * params.out_pitch + head * params.values + column] =
                    params.scale * (decay * total.y + total.z * error);
            }
        }
    }
}
