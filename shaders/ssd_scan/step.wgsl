// ssd_scan, one row after the other: for spans that fit one chunk, decode above all.
//   D = clamp(softplus(dt[t, h] + dt_bias[h]));  s[n, p] <- exp(D a[h]) s[n, p] + D x[t, h, p] b[t, g, n]
//   out[t, h, p] = sum_n s[n, p] c[t, g, n] + d[h] x[t, h, p]
//
// Tiling: one invocation for one column, or one word of four, of one head of one span, and of more spans where there are
// many. It goes over the states, and for each over the rows, so that the state is read and written once. Spans of
// more than ROWS rows are left to the chunks: what is known of a few rows fits registers. Barriers: none.
// Source: Dao and Gu 2024, arXiv 2405.21060, section 3, the recurrent form.
@group(0) @binding(2) var<storage, read> x: array<Number>;               // [rows, x_pitch]
@group(0) @binding(3) var<storage, read> dt: array<f32>;                 // [rows, dt_pitch]
@group(0) @binding(4) var<storage, read> b: array<f32>;                  // [rows, b_pitch]
@group(0) @binding(5) var<storage, read> c: array<f32>;                  // [rows, c_pitch]
@group(0) @binding(6) var<storage, read> vectors: array<f32>;
@group(0) @binding(7) var<storage, read_write> state: array<Number>;     // [slots + 1, heads, N, P]
@group(0) @binding(8) var<storage, read_write> out: array<Number>;       // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let count = span_count() * params.heads * (params.head_dim / NUMBERS);
    let stride = workgroups.x * workgroups.y * 64u;
    for (var index = wrapped(workgroup, workgroups) * 64u + lane; index < count; index += stride) { scan(index); }
}

// Column `index` of the heads of all spans.
fn scan(index: u32) {
    let columns = params.head_dim / NUMBERS;
    let inner = params.heads * columns;
    let which = index / inner;
    let within = index % inner;
    let head = within / columns;
    let span = span_at(which);
    if span.w > ROWS { return; }
    let group = head / (params.heads / params.groups) * params.d_state;
    let a = vectors[params.a_at + head];
    var decay: array<f32, ROWS>;
    var input: array<Number, ROWS>;
    var y: array<Number, ROWS>;
    for (var i = 0u; i < span.w; i++) {
        let row = span.y + i;
        let value = x[(row * params.x_pitch + params.x_offset) / NUMBERS + within];
        let raw = dt[row * params.dt_pitch + params.dt_offset + head] + vectors[params.dt_bias_at + head];
        let delta = limited(softplus(raw), params.dt_low, params.dt_high);
        decay[i] = exp(delta * a);
        input[i] = delta * value;
        y[i] = vectors[params.d_at + head] * value;
    }
    let at = (span.x * params.heads + head) * params.d_state * columns + within % columns;
    for (var n = 0u; n < params.d_state; n++) {
        var s = state[at + n * columns];
        for (var i = 0u; i < span.w; i++) {
            let row = span.y + i;
            s = decay[i] * s + input[i] * b[row * params.b_pitch + params.b_offset + group + n];
            y[i] += s * c[row * params.c_pitch + params.c_offset + group + n];
        }
        state[at + n * columns] = s;
    }
    for (var i = 0u; i < span.w; i++) {
        out[(span.y + i) * params.out_pitch / NUMBERS + within] = y[i];
    }
}
