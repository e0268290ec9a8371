// ssd_scan in chunks by columns, 3 of 5: what each chunk adds to the state by itself,
//   S[n, p] = sum_l b[l, n] exp(A_last - A_l) D_l x[l, p].
//
// Tiling: lanes lie along the columns p of all heads, four a lane; a lane makes eight states n of them, in registers. The
// heads of a workgroup are of one group, so b is the same for its lanes: eight of a subgroup load the two words of four
// rows, and all get them by broadcasts. Four words of x are read for 128 multiplications. Barriers: none.
// Limits: subgroups of eight lanes or more; offsets, pitches and P in multiples of four, N of eight; columns of a group in
// multiples of a workgroup's. Source: Dao and Gu 2024, arXiv 2405.21060, section 6, step 2.
const LANES = 32u;
const COLUMNS = 4u * LANES;     // of a workgroup
const STATES = 8u;              // of a lane
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;                 // [rows, x_pitch / 4]
@group(0) @binding(3) var<storage, read> b: array<vec4<f32>>;                 // [rows, b_pitch / 4]
@group(0) @binding(4) var<storage, read> steps: array<vec4<f32>>;             // as in layout.wgsl
@group(0) @binding(5) var<storage, read_write> chunk_state: array<vec4<f32>>; // [chunks, heads, N, P / 4]

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) within_subgroup: u32,
) {
    let blocks = params.d_state / STATES;
    let which = workgroup.y / blocks;
    let first = workgroup.y % blocks * STATES;
    if which >= long_chunk_count() { return; }
    let chunk = chunk_at(which);
    let last = chunk.y - 1u;
    let word = workgroup.x * LANES + lane;
    let words = params.head_dim / 4u;
    let head = word / words;
    let group = head / (params.heads / params.groups);
    let factors = (steps_of(which, head) + 2u * CHUNK_ROWS) / 4u;
    let x_at = params.x_offset / 4u + word;
    let x_pitch = params.x_pitch / 4u;
    // Of eight lanes, two load a row: its first and its second word.
    let my_row = within_subgroup % 8u / 2u;
    let b_at = (params.b_offset + group * params.d_state + first) / 4u + within_subgroup % 2u;
    var sums: EightRows;
    for (var l = 0u; l < chunk.y; l += 4u) {
        let mine = b[(chunk.x + min(l + my_row, last)) * (params.b_pitch / 4u) + b_at];
        // 0 past the last row.
        let factor = steps[factors + l / 4u];
        let x0 = factor.x * x[(chunk.x + l) * x_pitch + x_at];
        let x1 = factor.y * x[(chunk.x + min(l + 1u, last)) * x_pitch + x_at];
        let x2 = factor.z * x[(chunk.x + min(l + 2u, last)) * x_pitch + x_at];
        let x3 = factor.w * x[(chunk.x + min(l + 3u, last)) * x_pitch + x_at];
        add_rows(&sums, subgroupBroadcast(mine, 0u), subgroupBroadcast(mine, 1u), x0);
        add_rows(&sums, subgroupBroadcast(mine, 2u), subgroupBroadcast(mine, 3u), x1);
        add_rows(&sums, subgroupBroadcast(mine, 4u), subgroupBroadcast(mine, 5u), x2);
        add_rows(&sums, subgroupBroadcast(mine, 6u), subgroupBroadcast(mine, 7u), x3);
    }
    let to = (which * params.chunk_states + (head * params.d_state + first) * params.head_dim) / 4u + word % words;
    chunk_state[to] = sums.a;
    chunk_state[to + words] = sums.b;
    chunk_state[to + 2u * words] = sums.c;
    chunk_state[to + 3u * words] = sums.d;
    chunk_state[to + 4u * words] = sums.e;
    chunk_state[to + 5u * words] = sums.f;
    chunk_state[to + 6u * words] = sums.g;
    chunk_state[to + 7u * words] = sums.h;
}
