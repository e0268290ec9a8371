// ssd_scan in chunks, 1 of 3: what each chunk adds to the state by itself,
//   S[n, p] = sum_l exp(A_last - A_l) D_l b[l, n] x[l, p],   A_l = sum of D a up to row l,
// a product of two small matrices; and the chunk's decay exp(A_last).
//
// Tiling: one workgroup for one head of one chunk. A lane makes 8 x 8 numbers of the product at a time, in
// registers: 16 numbers read for 64 multiplications; two such tiles at 64 x 128 numbers a head, so that starting a
// lane and its barriers is worth it. Tiles that reach over an edge compute what nobody stores.
// How x and B are read: read_vector.wgsl or read_scalar.wgsl.
// Barriers: three, for the steps. Source: Dao and Gu 2024, arXiv 2405.21060, section 6, step 2.
const LANES = 64u;
const TILE = 8u;
@group(0) @binding(3) var<storage, read> dt: array<f32>;                 // [rows, dt_pitch]
@group(0) @binding(5) var<storage, read> vectors: array<f32>;
@group(0) @binding(6) var<storage, read_write> chunk_state: array<f32>;  // [chunks, heads, N, P], then decays [chunks, heads]

var<workgroup> factors: array<f32, CHUNK_ROWS>;

// Leaves numbers p .. p + 4 of row n of a state that begins at `to`.
fn store(to: u32, n: u32, p: u32, values: vec4<f32>) {
    if n >= params.d_state { return; }
    let at = to + n * params.head_dim + p;
    if p < params.head_dim { chunk_state[at] = values.x; }
    if p + 1u < params.head_dim { chunk_state[at + 1u] = values.y; }
    if p + 2u < params.head_dim { chunk_state[at + 2u] = values.z; }
    if p + 3u < params.head_dim { chunk_state[at + 3u] = values.w; }
}

// The same for four rows.
fn store_quad(to: u32, n: u32, p: u32, values: mat4x4<f32>) {
    store(to, n, p, values[0]);
    store(to, n + 1u, p, values[1]);
    store(to, n + 2u, p, values[2]);
    store(to, n + 3u, p, values[3]);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let which = index / params.heads;
    let head = index % params.heads;
    let chunk = load_steps(lane, head, which);
    if chunk.y == 0u { return; }
    let last = sums[chunk.y - 1u];
    if lane < chunk.y { factors[lane] = exp(last - sums[lane]) * deltas[lane]; }
    workgroupBarrier();
    let b_from = chunk.x * params.b_pitch + params.b_offset + head / (params.heads / params.groups) * params.d_state;
    let x_from = chunk.x * params.x_pitch + params.x_offset + head * params.head_dim;
    let to = which * params.chunk_states + head * params.d_state * params.head_dim;
    let across = (params.head_dim + TILE - 1u) / TILE;
    let tiles = across * ((params.d_state + TILE - 1u) / TILE);
    for (var tile = lane; tile < tiles; tile += LANES) {
        let n = tile / across * TILE;
        let p = tile % across * TILE;
        var product = Tile();
        var b_at = b_from + n;
        var x_at = x_from + p;
        for (var l = 0u; l < chunk.y; l++) {
            let factor = factors[l];
            let b_low = factor * quad_of_b(b_at);
            let b_high = factor * quad_of_b(b_at + 4u);
            let x_low = quad_of_x(x_at);
            let x_high = quad_of_x(x_at + 4u);
            add_outer(&product, b_low, b_high, x_low, x_high);
            b_at += params.b_pitch;
            x_at += params.x_pitch;
        }
        store_quad(to, n, p, product.low_low);
        store_quad(to, n, p + 4u, product.low_high);
        store_quad(to, n + 4u, p, product.high_low);
        store_quad(to, n + 4u, p + 4u, product.high_high);
    }
    if lane == 0u { chunk_state[params.decays_at + which * params.heads + head] = exp(last); }
}
