// selective_scan in chunks, 2 of 3: hands the state from chunk to chunk. Turns what each chunk adds
// into the state that it begins with, and leaves the state after the span in its slot.
//
// Tiling: one invocation for one state of one channel; it walks the chunks in order, a few steps of one
// multiplication each. Barriers: none.
override STATES: u32 = 16;
@group(0) @binding(2) var<storage, read> vectors: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;        // [slots + 1, STATES, channels]
// [chunks, STATES, channels], then the sums of steps [chunks, channels]
@group(0) @binding(4) var<storage, read_write> chunk_state: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    if index >= STATES * params.channels { return; }
    let channel = index % params.channels;
    let a = vectors[params.a_at + channel * STATES + index / params.channels];
    var s = 0.0;
    for (var which = 0u; which < long_chunk_count(); which++) {
        let chunk = chunk_at(which);
        let span = span_at(chunk.z);
        let slot = span.x * STATES * params.channels + index;
        if chunk.x == span.y { s = state[slot]; }
        let at = which * params.chunk_states + index;
        let added = chunk_state[at];
        chunk_state[at] = s;
        s = exp(a * chunk_state[params.decays_at + which * params.channels + channel]) * s + added;
        if chunk.w == 0u { state[slot] = s; }
    }
}
