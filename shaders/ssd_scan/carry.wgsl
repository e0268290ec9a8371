// ssd_scan in chunks, 2 of 3 (4 of 5 by columns): hands the state from chunk to chunk. Turns what each chunk adds into the
// state that it begins with, and leaves the state after the span in its slot.
//
// Tiling: one workgroup for 256 numbers of one head's state, four a lane, so that what the step table says of a
// chunk is read once for four; a lane walks the chunks in order, a few steps of one multiplication each.
// Barriers: none. Source: Dao and Gu 2024, arXiv 2405.21060, section 6, step 3.
@group(0) @binding(2) var<storage, read_write> state: array<f32>;        // [slots + 1, heads, N, P]
@group(0) @binding(3) var<storage, read_write> chunk_state: array<f32>;  // [chunks, heads, N, P], then decays [chunks, heads]

const LANES = 64u;
const CARRIED = 4u * LANES;     // numbers of a workgroup

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let numbers = params.d_state * params.head_dim;
    let blocks = (numbers + CARRIED - 1u) / CARRIED;
    let head = index / blocks;
    if head >= params.heads { return; }
    let first = index % blocks * CARRIED + lane;
    let places = first + vec4(0u, LANES, 2u * LANES, 3u * LANES);
    let mine = places < vec4(numbers);
    // A number past the last one is the last one again, and is not stored.
    let within = head * numbers + min(places, vec4(numbers - 1u));
    var s = vec4(0.0);
    for (var which = 0u; which < long_chunk_count(); which++) {
        let chunk = chunk_at(which);
        let span = span_at(chunk.z);
        let slot = span.x * params.chunk_states + within;
        if chunk.x == span.y { s = vec4(state[slot.x], state[slot.y], state[slot.z], state[slot.w]); }
        let at = which * params.chunk_states + within;
        let added = vec4(chunk_state[at.x], chunk_state[at.y], chunk_state[at.z], chunk_state[at.w]);
        if mine.x { chunk_state[at.x] = s.x; }
        if mine.y { chunk_state[at.y] = s.y; }
        if mine.z { chunk_state[at.z] = s.z; }
        if mine.w { chunk_state[at.w] = s.w; }
        s = chunk_state[params.decays_at + which * params.heads + head] * s + added;
        if chunk.w == 0u {
            if mine.x { state[slot.x] = s.x; }
            if mine.y { state[slot.y] = s.y; }
            if mine.z { state[slot.z] = s.z; }
            if mine.w { state[slot.w] = s.w; }
        }
    }
}
