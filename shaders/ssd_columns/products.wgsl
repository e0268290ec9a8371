// ssd_scan in chunks by columns, 2 of 5: the products c_l . b_s of the rows of one chunk in one group, which are those of
// every head of the group.
//
// Tiling: one workgroup for eight rows l; a lane makes those of one row s. Its words of b it loads itself; those of c are
// loaded by eight lanes of a subgroup, a row each, and come to all of them by broadcasts. Barriers: none.
// Limits: subgroups of eight lanes or more; offsets, pitches and N in multiples of four.
// Source: Dao and Gu 2024, arXiv 2405.21060, section 6, step 1.
const ROWS = 8u;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;            // [rows, b_pitch / 4]
@group(0) @binding(3) var<storage, read> c: array<vec4<f32>>;            // [rows, c_pitch / 4]
@group(0) @binding(4) var<storage, read_write> steps: array<f32>;        // as in layout.wgsl

@compute @workgroup_size(CHUNK_ROWS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) within_subgroup: u32,
) {
    let group = workgroup.x;
    let which = workgroup.y / (CHUNK_ROWS / ROWS);
    let first = workgroup.y % (CHUNK_ROWS / ROWS) * ROWS;
    if which >= long_chunk_count() { return; }
    let chunk = chunk_at(which);
    if first >= chunk.y { return; }
    let of_b = chunk.x + min(lane, chunk.y - 1u);
    let of_c = chunk.x + min(first + within_subgroup % ROWS, chunk.y - 1u);
    let b_at = (of_b * params.b_pitch + params.b_offset + group * params.d_state) / 4u;
    let c_at = (of_c * params.c_pitch + params.c_offset + group * params.d_state) / 4u;
    var low = vec4(0.0);
    var high = vec4(0.0);
    for (var n = 0u; n < params.d_state / 4u; n++) {
        let word = b[b_at + n];
        let mine = c[c_at + n];
        low += mat4x4(low_lanes(mine.x), low_lanes(mine.y), low_lanes(mine.z), low_lanes(mine.w)) * word;
        high += mat4x4(high_lanes(mine.x), high_lanes(mine.y), high_lanes(mine.z), high_lanes(mine.w)) * word;
    }
    let to = products_of(which, group) + first * CHUNK_ROWS + lane;
    for (var i = 0u; i < 4u; i++) {
        steps[to + i * CHUNK_ROWS] = low[i];
        steps[to + (i + 4u) * CHUNK_ROWS] = high[i];
    }
}
