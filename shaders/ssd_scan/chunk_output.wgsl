// ssd_scan in chunks, 3 of 3: the rows of the result, by two small matrix products,
//   out[l, p] = sum_{s <= l} (c_l . b_s) exp(A_l - A_s) D_s x[s, p] + exp(A_l) sum_n c[l, n] E[n, p] + d x[l, p],
// with A_l the sum of D a up to row l and E the state that the chunk begins with.
//
// Tiling: one workgroup for one head of one chunk. The masked, decayed C B^T (32 x 32) is made once, in workgroup
// memory, by 4 x 4 numbers a lane; then a lane makes 8 rows of 8 columns of the result, in registers: 16 numbers
// read for 64 multiplications. 32 lanes, because the result of a head of 64 columns is 32 such tiles: more would
// wait. Tiles that reach over an edge compute what nobody stores. How x, B, C and E are read: read_vector.wgsl and
// carried_vector.wgsl, or their like.
// Barriers: three. Limits: 8 storage buffers, 5 KiB of workgroup memory.
// Source: Dao and Gu 2024, arXiv 2405.21060, section 6, steps 1 and 4. Differences A_l - A_s, never
// exp(-A_s) alone, which would overflow.
const LANES = 32u;
const QUADS = CHUNK_ROWS / 4u;
@group(0) @binding(3) var<storage, read> dt: array<f32>;                 // [rows, dt_pitch]
@group(0) @binding(6) var<storage, read> vectors: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

// What row l takes of row s, four l to a vector: [s, l / 4].
var<workgroup> mixing: array<vec4<f32>, CHUNK_ROWS * QUADS>;

// States n .. n + 4 of four rows, the first of them at `at`; column i of the result: state n + i.
fn block_of_b(at: u32, n: u32) -> mat4x4<f32> {
    let left = params.d_state - n;
    let pitch = params.b_pitch;
    let first = up_to(left, quad_of_b(at));
    let second = up_to(left, quad_of_b(at + pitch));
    let third = up_to(left, quad_of_b(at + 2u * pitch));
    return transpose(mat4x4(first, second, third, up_to(left, quad_of_b(at + 3u * pitch))));
}
fn block_of_c(at: u32, n: u32) -> mat4x4<f32> {
    let left = params.d_state - n;
    let pitch = params.c_pitch;
    let first = up_to(left, quad_of_c(at));
    let second = up_to(left, quad_of_c(at + pitch));
    let third = up_to(left, quad_of_c(at + 2u * pitch));
    return transpose(mat4x4(first, second, third, up_to(left, quad_of_c(at + 3u * pitch))));
}

fn four_sums(l: u32) -> vec4<f32> { return vec4(sums[l], sums[l + 1u], sums[l + 2u], sums[l + 3u]); }

// What rows l .. l + 4 take of row s, from their products c b.
fn mix(l: u32, s: u32, products: vec4<f32>) {
    let decays = exp(min(four_sums(l) - sums[s], vec4(0.0))) * deltas[s];
    let earlier = vec4(s) <= vec4(l, l + 1u, l + 2u, l + 3u);
    mixing[s * QUADS + l / 4u] = select(vec4(0.0), products * decays, earlier);
}

// Each column of a matrix times its own number.
fn scaled(matrix: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(matrix[0] * by.x, matrix[1] * by.y, matrix[2] * by.z, matrix[3] * by.w);
}

// Leaves columns p .. p + 4 of row l of the chunk.
fn store(chunk: vec4<u32>, head: u32, l: u32, p: u32, values: vec4<f32>) {
    if l >= chunk.y { return; }
    let x_at = (chunk.x + l) * params.x_pitch + params.x_offset + head * params.head_dim + p;
    let y = values + vectors[params.d_at + head] * quad_of_x(x_at);
    let at = (chunk.x + l) * params.out_pitch + head * params.head_dim + p;
    if p < params.head_dim { out[at] = y.x; }
    if p + 1u < params.head_dim { out[at + 1u] = y.y; }
    if p + 2u < params.head_dim { out[at + 2u] = y.z; }
    if p + 3u < params.head_dim { out[at + 3u] = y.w; }
}

// The same for rows l .. l + 4.
fn store_quad(chunk: vec4<u32>, head: u32, l: u32, p: u32, rows: mat4x4<f32>) {
    store(chunk, head, l, p, rows[0]);
    store(chunk, head, l + 1u, p, rows[1]);
    store(chunk, head, l + 2u, p, rows[2]);
    store(chunk, head, l + 3u, p, rows[3]);
}

// Adds what eight rows take of eight columns of state n. Past the last state they take nothing of it.
fn add_carried(y: ptr<function, Tile>, c_low: vec4<f32>, c_high: vec4<f32>, e_at: u32, n: u32) {
    let at = e_at + min(n, params.d_state - 1u) * params.head_dim;
    add_outer(y, c_low, c_high, quad_of_state(at), quad_of_state(at + 4u));
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
    let group = head / (params.heads / params.groups) * params.d_state;
    let b_from = chunk.x * params.b_pitch + params.b_offset + group;
    let c_from = chunk.x * params.c_pitch + params.c_offset + group;
    let x_from = chunk.x * params.x_pitch + params.x_offset + head * params.head_dim;
    for (var tile = lane; tile < QUADS * QUADS; tile += LANES) {
        let l = tile / QUADS * 4u;
        let s = tile % QUADS * 4u;
        // What lies above the diagonal of an 8 x 8 block is read, and must be 0; further up nothing is.
        if s > l + 4u || l >= chunk.y { continue; }
        var products = mat4x4<f32>();       // column i: of row s + i with the four rows from l on
        for (var n = 0u; n < params.d_state; n += 4u) {
            let of_b = block_of_b(b_from + s * params.b_pitch + n, n);
            let of_c = block_of_c(c_from + l * params.c_pitch + n, n);
            products += outer(of_b[0], of_c[0]) + outer(of_b[1], of_c[1]);
            products += outer(of_b[2], of_c[2]) + outer(of_b[3], of_c[3]);
        }
        mix(l, s, products[0]);
        mix(l, s + 1u, products[1]);
        mix(l, s + 2u, products[2]);
        mix(l, s + 3u, products[3]);
    }
    workgroupBarrier();
    let e_from = which * params.chunk_states + head * params.d_state * params.head_dim;
    let across = (params.head_dim + 7u) / 8u;
    for (var tile = lane; tile < CHUNK_ROWS / 8u * across; tile += LANES) {
        let l = tile / across * 8u;
        let p = tile % across * 8u;
        if l >= chunk.y { continue; }
        let c_at = c_from + l * params.c_pitch;
        let e_at = e_from + p;
        var y = Tile();
        for (var n = 0u; n < params.d_state; n += 4u) {
            let of_low = block_of_c(c_at + n, n);
            let of_high = block_of_c(c_at + 4u * params.c_pitch + n, n);
            add_carried(&y, of_low[0], of_high[0], e_at, n);
            add_carried(&y, of_low[1], of_high[1], e_at, n + 1u);
            add_carried(&y, of_low[2], of_high[2], e_at, n + 2u);
            add_carried(&y, of_low[3], of_high[3], e_at, n + 3u);
        }
        let decays_low = exp(four_sums(l));
        let decays_high = exp(four_sums(l + 4u));
        y.low_low = scaled(y.low_low, decays_low);
        y.low_high = scaled(y.low_high, decays_low);
        y.high_low = scaled(y.high_low, decays_high);
        y.high_high = scaled(y.high_high, decays_high);
        for (var s = 0u; s < min(l + 8u, chunk.y); s++) {
            let at = x_from + s * params.x_pitch + p;
            let taken = s * QUADS + l / 4u;
            add_outer(&y, mixing[taken], mixing[taken + 1u], quad_of_x(at), quad_of_x(at + 4u));
        }
        store_quad(chunk, head, l, p, y.low_low);
        store_quad(chunk, head, l, p + 4u, y.low_high);
        store_quad(chunk, head, l + 4u, p, y.high_low);
        store_quad(chunk, head, l + 4u, p + 4u, y.high_high);
    }
}
