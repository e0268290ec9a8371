// ssd_scan in chunks, 2 of 3: hands the state from chunk to chunk. Turns what each chunk adds into the
// state that it begins with, and leaves the state after the span in its slot.
//
// Tiling: one invocation for one number of the state; it walks the chunks in order, a few steps of one
// multiplication each. Barriers: none. Source: Dao and Gu 2024, arXiv 2405.21060, section 6, step 3.
struct Params {
    heads: u32,
    groups: u32,
    columns: u32,       // P, of a head
    states: u32,        // N
    x_pitch: u32,
    x_offset: u32,
    dt_pitch: u32,
    dt_offset: u32,
    b_pitch: u32,
    b_offset: u32,
    c_pitch: u32,
    c_offset: u32,
    out_pitch: u32,
    a_at: u32,          // in `vectors`: [heads], negative
    d_at: u32,          // in `vectors`: [heads]
    dt_bias_at: u32,    // in `vectors`: [heads]
    chunks_at: u32,
    chunk_states: u32,  // numbers of one chunk's states
    decays_at: u32,     // in `chunk_state`
    dt_low: f32,
    dt_high: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> state: array<f32>;        // [slots + 1, heads, N, P]
@group(0) @binding(3) var<storage, read_write> chunk_state: array<f32>;  // [chunks, heads, N, P], then decays [chunks, heads]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    if index >= params.chunk_states { return; }
    let head = index / (params.states * params.columns);
    var s = 0.0;
    for (var which = 0u; which < long_chunk_count(); which++) {
        let chunk = chunk_at(which);
        let span = span_at(chunk.z);
        let slot = span.x * params.chunk_states + index;
        if chunk.x == span.y { s = state[slot]; }
        let at = which * params.chunk_states + index;
        let added = chunk_state[at];
        chunk_state[at] = s;
        s = chunk_state[params.decays_at + which * params.heads + head] * s + added;
        if chunk.w == 0u { state[slot] = s; }
    }
}
