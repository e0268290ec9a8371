// selective_scan in chunks, 1 of 3: what each chunk adds to the state by itself, beginning from zero,
// and the sum of its steps, from which its decay follows: exp(a * sum of D).
//
// Tiling: one invocation for one channel of one chunk, its states in registers. Barriers: none.
// Limits: 16 states a channel. Source: reduce-then-scan (Blelloch 1990) over the recurrence of
// step.wgsl; no workgroup ever waits for another.
override STATES: u32 = 16;
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(3) var<storage, read> dt: array<f32>;                 // [rows, dt_pitch]
@group(0) @binding(4) var<storage, read> b: array<f32>;                  // [rows, b_pitch]
@group(0) @binding(5) var<storage, read> vectors: array<f32>;
// [chunks, STATES, channels], then the sums of steps [chunks, channels]
@group(0) @binding(6) var<storage, read_write> chunk_state: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let which = index / params.channels;
    let channel = index % params.channels;
    if which >= long_chunk_count() { return; }
    let chunk = chunk_at(which);
    var s: array<f32, MOST_STATES>;
    var a: array<f32, MOST_STATES>;
    for (var n = 0u; n < STATES; n++) { a[n] = vectors[params.a_at + channel * STATES + n]; }
    var steps = 0.0;
    for (var row = chunk.x; row < chunk.x + chunk.y; row++) {
        let value = x[row * params.x_pitch + params.x_offset + channel];
        let delta = softplus(dt[row * params.dt_pitch + params.dt_offset + channel]);
        steps += delta;
        for (var n = 0u; n < STATES; n++) {
            s[n] = exp(delta * a[n]) * s[n] + delta * value * b[row * params.b_pitch + params.b_offset + n];
        }
    }
    let at = which * params.chunk_states + channel;
    for (var n = 0u; n < STATES; n++) { chunk_state[at + n * params.channels] = s[n]; }
    chunk_state[params.decays_at + which * params.channels + channel] = steps;
}
