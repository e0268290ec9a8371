// ssd_scan in chunks by columns, 5 of 5: the rows of the result. With f the first of eight rows,
//   out[l] = exp(A_l - A_f) (exp(A_f) c_l E + sum_{s < f} (c_l . b_s) exp(A_f - A_s) D_s x[s])
//          + sum_{f <= s <= l} (c_l . b_s) exp(A_l - A_s) D_s x[s] + d x[l],
// E the state that the chunk begins with. No exponent is above 0.
//
// Tiling: lanes as in chunk_state.wgsl; a lane makes the eight rows of four columns, in registers. Rows of c and of the
// products are loaded by eight lanes of a subgroup, a row each, and come to all of them by broadcasts. What depends on the
// head, which is not the same for all lanes, stays with the lane: before row f it is a factor of x alone.
// Barriers: none. Limits: as in chunk_state.wgsl; what is not finite in x reaches the rows before it of the same eight.
// Source: Dao and Gu 2024, arXiv 2405.21060, section 6, steps 1 and 4.
const LANES = 32u;
const ROWS = 8u;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch / 4]
@group(0) @binding(3) var<storage, read> c: array<vec4<f32>>;            // [rows, c_pitch / 4]
@group(0) @binding(4) var<storage, read> steps: array<vec4<f32>>;        // as in layout.wgsl
@group(0) @binding(5) var<storage, read> chunk_state: array<vec4<f32>>;  // [chunks, heads, N, P / 4]
@group(0) @binding(6) var<storage, read> vectors: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;    // [rows, out_pitch / 4]

// What eight rows of a head have as sums A and steps D.
struct Steps { sums: Eight, deltas: Eight }

// What rows f .. f + 8 take of row f + s, `mine` being the products of one of them with it.
fn take(y: ptr<function, EightRows>, s: u32, steps: Steps, sum: f32, delta: f32, mine: f32, d: f32, columns: vec4<f32>) {
    let l = vec4(0u, 1u, 2u, 3u);
    let low = low_lanes(mine) * exp(min(steps.sums.low - sum, vec4(0.0))) * delta;
    let high = high_lanes(mine) * exp(min(steps.sums.high - sum, vec4(0.0))) * delta;
    let skipped_low = select(vec4(0.0), vec4(d), vec4(s) == l);
    let skipped_high = select(vec4(0.0), vec4(d), vec4(s) == l + 4u);
    add_rows(y, select(vec4(0.0), low, vec4(s) <= l) + skipped_low, select(vec4(0.0), high, vec4(s) <= l + 4u) + skipped_high, columns);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) within_subgroup: u32,
) {
    let which = workgroup.y / (CHUNK_ROWS / ROWS);
    let first = workgroup.y % (CHUNK_ROWS / ROWS) * ROWS;
    if which >= long_chunk_count() { return; }
    let chunk = chunk_at(which);
    if first >= chunk.y { return; }
    let last = chunk.y - 1u;
    let word = workgroup.x * LANES + lane;
    let words = params.head_dim / 4u;
    let head = word / words;
    let group = head / (params.heads / params.groups);
    let x_at = params.x_offset / 4u + word;
    let x_pitch = params.x_pitch / 4u;
    let my_row = first + within_subgroup % ROWS;
    let c_at = ((chunk.x + min(my_row, last)) * params.c_pitch + params.c_offset + group * params.d_state) / 4u;
    let e_at = (which * params.chunk_states + head * params.d_state * params.head_dim) / 4u + word % words;
    var y: EightRows;
    for (var n = 0u; n < params.d_state / 4u; n++) {
        let mine = c[c_at + n];
        let e = e_at + 4u * n * words;
        add_rows(&y, low_lanes(mine.x), high_lanes(mine.x), chunk_state[e]);
        add_rows(&y, low_lanes(mine.y), high_lanes(mine.y), chunk_state[e + words]);
        add_rows(&y, low_lanes(mine.z), high_lanes(mine.z), chunk_state[e + 2u * words]);
        add_rows(&y, low_lanes(mine.w), high_lanes(mine.w), chunk_state[e + 3u * words]);
    }

    let of_head = steps_of(which, head) / 4u;
    let deltas_at = of_head + CHUNK_ROWS / 4u;
    let products_at = products_of(which, group) / 4u + my_row * (CHUNK_ROWS / 4u);
    let at = of_head + first / 4u;
    let delta_at = deltas_at + first / 4u;
    let own = Steps(Eight(steps[at], steps[at + 1u]), Eight(steps[delta_at], steps[delta_at + 1u]));
    let start = own.sums.low.x;
    scale_rows(&y, vec4(exp(start)), vec4(exp(start)));
    for (var s = 0u; s < first; s += 4u) {
        let mine = steps[products_at + s / 4u];
        let factor = exp(start - steps[of_head + s / 4u]) * steps[deltas_at + s / 4u];
        let row = (chunk.x + s) * x_pitch + x_at;
        add_rows(&y, low_lanes(mine.x), high_lanes(mine.x), factor.x * x[row]);
        add_rows(&y, low_lanes(mine.y), high_lanes(mine.y), factor.y * x[row + x_pitch]);
        add_rows(&y, low_lanes(mine.z), high_lanes(mine.z), factor.z * x[row + 2u * x_pitch]);
        add_rows(&y, low_lanes(mine.w), high_lanes(mine.w), factor.w * x[row + 3u * x_pitch]);
    }
    scale_rows(&y, exp(own.sums.low - start), exp(own.sums.high - start));

    let low = steps[products_at + first / 4u];
    let high = steps[products_at + first / 4u + 1u];
    let sums = own.sums;
    let deltas = own.deltas;
    let d = vectors[params.d_at + head];
    take(&y, 0u, own, sums.low.x, deltas.low.x, low.x, d, x[(chunk.x + first) * x_pitch + x_at]);
    take(&y, 1u, own, sums.low.y, deltas.low.y, low.y, d, x[(chunk.x + min(first + 1u, last)) * x_pitch + x_at]);
    take(&y, 2u, own, sums.low.z, deltas.low.z, low.z, d, x[(chunk.x + min(first + 2u, last)) * x_pitch + x_at]);
    take(&y, 3u, own, sums.low.w, deltas.low.w, low.w, d, x[(chunk.x + min(first + 3u, last)) * x_pitch + x_at]);
    take(&y, 4u, own, sums.high.x, deltas.high.x, high.x, d, x[(chunk.x + min(first + 4u, last)) * x_pitch + x_at]);
    take(&y, 5u, own, sums.high.y, deltas.high.y, high.y, d, x[(chunk.x + min(first + 5u, last)) * x_pitch + x_at]);
    take(&y, 6u, own, sums.high.z, deltas.high.z, high.z, d, x[(chunk.x + min(first + 6u, last)) * x_pitch + x_at]);
    take(&y, 7u, own, sums.high.w, deltas.high.w, high.w, d, x[(chunk.x + min(first + 7u, last)) * x_pitch + x_at]);

    let to = (chunk.x + first) * params.out_pitch / 4u + word;
    let pitch = params.out_pitch / 4u;
    let left = chunk.y - first;
    out[to] = y.a;
    if left > 1u { out[to + pitch] = y.b; }
    if left > 2u { out[to + 2u * pitch] = y.c; }
    if left > 3u { out[to + 3u * pitch] = y.d; }
    if left > 4u { out[to + 4u * pitch] = y.e; }
    if left > 5u { out[to + 5u * pitch] = y.f; }
    if left > 6u { out[to + 6u * pitch] = y.g; }
    if left > 7u { out[to + 7u * pitch] = y.h; }
}
