// gated_delta in chunks, 1 of 3: what the rows of a chunk know of one another.
//
// Within a chunk that begins with the state S, row i finds  D_i..D_1 S  and what the rows before it added, so
// that its error depends on theirs:
//   e_i + B_i sum_{j < i} exp(G_i - G_j) (k_i . k_j) e_j = B_i (v_i - exp(G_i) k_i S),   G_i = g_1 + .. + g_i.
// That is a triangular system, A e = diag(B) (V - diag(exp(G)) K S), and all of its right side but S is known.
// Here A is inverted: T = A^-1 diag(B), 32 x 32, is what the next kernel multiplies with.
//
// Tiling: one workgroup for one head of one chunk. The products of keys are made from tiles of 32 x 16 in
// workgroup memory, four a lane; then 32 lanes solve for one column each, by substitution, without a barrier
// among them. Barriers: two a tile, and five. Limits: 10 KiB of workgroup memory; any width of keys.
// Source: Yang, Wang, Zhang, Shen and Kim 2024, arXiv 2406.06484, section 3.2 (the WY form), with the decay
// of arXiv 2412.06464, section 3.3. Differences G_i - G_j, never exp(-G_j) alone, which would overflow.
const LANES = 256u;
const TILE = 16u;
@group(0) @binding(2) var<storage, read> k: array<f32>;                  // [rows, k_pitch], normed
@group(0) @binding(3) var<storage, read_write> scratch: array<f32>;

var<workgroup> keys: array<f32, CHUNK_ROWS * TILE>;
var<workgroup> lower: array<f32, CHUNK_ROWS * CHUNK_ROWS>;
var<workgroup> inverse: array<f32, CHUNK_ROWS * CHUNK_ROWS>;

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

    // Row `lane / 32 + 8 n` of the products, column `lane % 32`.
    let column = lane % CHUNK_ROWS;
    let first = lane / CHUNK_ROWS;
    var products = vec4(0.0);
    let start = chunk.x * params.k_pitch + params.k_offset + key_column(head);
    for (var base = 0u; base < params.keys; base += TILE) {
        for (var i = lane; i < CHUNK_ROWS * TILE; i += LANES) {
            let row = i / TILE;
            let key = base + i % TILE;
            var value = 0.0;
            if row < chunk.y && key < params.keys { value = k[start + row * params.k_pitch + key]; }
            keys[i] = value;
        }
        workgroupBarrier();
        for (var i = 0u; i < TILE; i++) {
            let other = keys[column * TILE + i];
            let at = first * TILE + i;
            products += other * vec4(keys[at], keys[at + 8u * TILE], keys[at + 16u * TILE], keys[at + 24u * TILE]);
        }
        workgroupBarrier();
    }
    for (var n = 0u; n < 4u; n++) {
        let row = first + 8u * n;
        var value = 0.0;
        if column < row { value = betas[row] * products[n] * exp(sums[row] - sums[column]); }
        lower[row * CHUNK_ROWS + column] = value;
    }
    workgroupBarrier();
    if lane < CHUNK_ROWS {
        for (var row = 0u; row < CHUNK_ROWS; row++) {
            var value = select(0.0, 1.0, row == column);
            for (var j = column; j < row; j++) {
                value -= lower[row * CHUNK_ROWS + j] * inverse[j * CHUNK_ROWS + column];
            }
            inverse[row * CHUNK_ROWS + column] = value;
        }
    }
    workgroupBarrier();
    let to = params.inverses_at + index * CHUNK_ROWS * CHUNK_ROWS;
    for (var i = lane; i < CHUNK_ROWS * CHUNK_ROWS; i += LANES) {
        scratch[to + i] = inverse[i] * betas[i % CHUNK_ROWS];
    }
}
