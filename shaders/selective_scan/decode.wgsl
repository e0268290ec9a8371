// Everything between x_proj and the gated result of Mamba-1, for few rows (decode): convolution, the
// norms of dt, B and C, dt_proj, selective_scan, the gate, and the renewal of the convolution's state.
//   a = function(conv(x));  D = softplus(dt_proj norm(dt) + bias);  s[n] <- exp(D A[n]) s[n] + D a norm(B)[n]
//   out = (sum_n s[n] norm(C)[n] + d a) * gate_function(z)
//
// Tiling: one invocation for one channel of one span; a workgroup's lanes share the normed dt, B and C
// of the row. Barriers: one reduction and two more a row.
// Limits: 16 states a channel, rank of dt up to 256, d_conv up to 8; 8 storage buffers.
// Source: the formulas of step.wgsl and of conv/conv.wgsl.
struct Params {
    channels: u32,
    rank: u32,
    chunks: u32,            // of eight, a row of dt_proj
    x_pitch: u32,           // of the value that holds x and z
    x_offset: u32,
    z_offset: u32,
    selection_pitch: u32,   // of the value that holds dt, B and C
    dt_offset: u32,
    b_offset: u32,
    c_offset: u32,
    out_pitch: u32,
    dt_norm_at: u32,        // in `vectors`: [rank]
    b_norm_at: u32,         // [STATES]
    c_norm_at: u32,         // [STATES]
    dt_bias_at: u32,        // [channels]
    a_at: u32,              // [channels, STATES], negative
    d_at: u32,              // [channels]
    d_conv: u32,
    kernel_at: u32,         // [channels, d_conv]
    kernel_bias_at: u32,    // [channels]; NONE: no bias
    function: u32,
    gate_function: u32,
    dt_eps: f32,
    b_eps: f32,
    c_eps: f32,
}
override STATES: u32 = 16;
const LANES = 64u;
const MOST_RANK = 256u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> vectors: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]
@group(0) @binding(5) var<storage, read> selection: array<f32>;          // [rows, selection_pitch]
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(7) var<storage, read_write> columns: array<f32>;      // [slots + 1, d_conv - 1, channels]
@group(0) @binding(8) var<storage, read_write> state: array<f32>;        // [slots + 1, STATES, channels]

var<workgroup> dt_normed: array<f32, MOST_RANK>;
var<workgroup> b_normed: array<f32, MOST_STATES>;
var<workgroup> c_normed: array<f32, MOST_STATES>;

fn select_at(row: u32, offset: u32) -> f32 { return selection[row * params.selection_pitch + offset]; }

// Norms dt, B and C of a row into workgroup memory.
fn load_selection(lane: u32, row: u32) {
    var squares = vec3(0.0);
    for (var i = lane; i < params.rank; i += LANES) {
        let value = select_at(row, params.dt_offset + i);
        squares.x += value * value;
    }
    if lane < STATES {
        let pair = vec2(select_at(row, params.b_offset + lane), select_at(row, params.c_offset + lane));
        squares = vec3(squares.x, pair * pair);
    }
    let total = reduce_sum(lane, vec4(squares, 0.0)).xyz;
    let mean = total / vec3(f32(params.rank), f32(STATES), f32(STATES));
    let sums = mean + vec3(params.dt_eps, params.b_eps, params.c_eps);
    let factor = vec3(inverse_root(sums.x), inverse_root(sums.y), inverse_root(sums.z));
    for (var i = lane; i < 8u * params.chunks; i += LANES) {
        // The padding of a weight's row is 0, and so must be what it meets.
        dt_normed[i] = 0.0;
        if i < params.rank {
            dt_normed[i] = select_at(row, params.dt_offset + i) * factor.x * vectors[params.dt_norm_at + i];
        }
    }
    if lane < STATES {
        b_normed[lane] = select_at(row, params.b_offset + lane) * factor.y * vectors[params.b_norm_at + lane];
        c_normed[lane] = select_at(row, params.c_offset + lane) * factor.z * vectors[params.c_norm_at + lane];
    }
    workgroupBarrier();
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let groups = (params.channels + LANES - 1u) / LANES;
    let which = index / groups;
    if which >= span_count() { return; }
    let span = span_at(which);
    let channel = (index % groups) * LANES + lane;
    // Lanes past the last channel compute it again and write nothing: all must reach the barriers.
    let mine = min(channel, params.channels - 1u);
    let before = params.d_conv - 1u;
    let columns_at = span.x * before * params.channels + mine;
    let state_at = span.x * STATES * params.channels + mine;
    var earlier: array<f32, MOST_BEFORE>;   // the inputs before this row, oldest first
    for (var i = 0u; i < before; i++) { earlier[i] = columns[columns_at + i * params.channels]; }
    var s: array<f32, MOST_STATES>;
    var a: array<f32, MOST_STATES>;
    for (var n = 0u; n < STATES; n++) {
        s[n] = state[state_at + n * params.channels];
        a[n] = vectors[params.a_at + mine * STATES + n];
    }
    for (var row = span.y; row < span.y + span.w; row++) {
        load_selection(lane, row);
        let value = x[row * params.x_pitch + params.x_offset + mine];
        var sum = value * vectors[params.kernel_at + mine * params.d_conv + before];
        if params.kernel_bias_at != NONE { sum += vectors[params.kernel_bias_at + mine]; }
        for (var i = 0u; i < before; i++) { sum += earlier[i] * vectors[params.kernel_at + mine * params.d_conv + i]; }
        for (var i = 1u; i < before; i++) { earlier[i - 1u] = earlier[i]; }
        earlier[before - 1u] = value;
        let convolved = apply(params.function, sum);

        var raw = vectors[params.dt_bias_at + mine];
        for (var chunk = 0u; chunk < params.chunks; chunk++) {
            let w = load_weight(mine, params.chunks, chunk);
            let i = 8u * chunk;
            raw += dot(w.low, vec4(dt_normed[i], dt_normed[i + 1u], dt_normed[i + 2u], dt_normed[i + 3u]));
            raw += dot(w.high, vec4(dt_normed[i + 4u], dt_normed[i + 5u], dt_normed[i + 6u], dt_normed[i + 7u]));
        }
        let delta = softplus(raw);
        var y = vectors[params.d_at + mine] * convolved;
        for (var n = 0u; n < STATES; n++) {
            s[n] = exp(delta * a[n]) * s[n] + delta * convolved * b_normed[n];
            y += s[n] * c_normed[n];
        }
        if channel < params.channels {
            let gate = apply(params.gate_function, x[row * params.x_pitch + params.z_offset + mine]);
            out[row * params.out_pitch + mine] = y * gate;
        }
        workgroupBarrier();
    }
    if channel >= params.channels { return; }
    for (var i = 0u; i < before; i++) { columns[columns_at + i * params.channels] = earlier[i]; }
    for (var n = 0u; n < STATES; n++) { state[state_at + n * params.channels] = s[n]; }
}
