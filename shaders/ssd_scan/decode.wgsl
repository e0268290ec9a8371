// ssd_scan and the gate behind it, for few rows (decode): the formula of step.wgsl, then
//   out[t, h, p] *= function(z[t, h, p])
//
// Tiling: as in step.wgsl. x, B and C are columns of one value, dt and z of another; each is bound once for words and once
// for single numbers. Barriers: none. Limits: 8 storage buffers.
struct Params {
    heads: u32,
    groups: u32,
    head_dim: u32,      // P, of a head
    d_state: u32,       // N
    x_pitch: u32,
    x_offset: u32,
    b_offset: u32,
    c_offset: u32,
    projected_pitch: u32,
    dt_offset: u32,
    z_offset: u32,
    out_pitch: u32,
    a_at: u32,          // in `vectors`: [heads], negative
    d_at: u32,          // in `vectors`: [heads]
    dt_bias_at: u32,    // in `vectors`: [heads]
    function: u32,
    dt_low: f32,
    dt_high: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<Number>;               // [rows, x_pitch]
@group(0) @binding(3) var<storage, read> b_and_c: array<f32>;            // the same
@group(0) @binding(4) var<storage, read> dt: array<f32>;                 // [rows, projected_pitch]
@group(0) @binding(5) var<storage, read> z: array<Number>;               // the same
@group(0) @binding(6) var<storage, read> vectors: array<f32>;
@group(0) @binding(7) var<storage, read_write> state: array<Number>;     // [slots + 1, heads, N, P]
@group(0) @binding(8) var<storage, read_write> out: array<Number>;       // [rows, out_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let columns = params.head_dim / NUMBERS;
    let inner = params.heads * columns;
    let which = index / inner;
    let within = index % inner;
    let head = within / columns;
    if which >= span_count() { return; }
    let span = span_at(which);
    let a = vectors[params.a_at + head];
    var decay: array<f32, ROWS>;
    var input: array<Number, ROWS>;
    var y: array<Number, ROWS>;
    for (var i = 0u; i < span.w; i++) {
        let row = span.y + i;
        let value = x[(row * params.x_pitch + params.x_offset) / NUMBERS + within];
        let raw = dt[row * params.projected_pitch + params.dt_offset + head] + vectors[params.dt_bias_at + head];
        let delta = limited(softplus(raw), params.dt_low, params.dt_high);
        decay[i] = exp(delta * a);
        input[i] = delta * value;
        y[i] = vectors[params.d_at + head] * value;
    }
    let group = head / (params.heads / params.groups) * params.d_state;
    let at = (span.x * params.heads + head) * params.d_state * columns + within % columns;
    for (var n = 0u; n < params.d_state; n++) {
        var s = state[at + n * columns];
        for (var i = 0u; i < span.w; i++) {
            let row = (span.y + i) * params.x_pitch + group + n;
            s = decay[i] * s + input[i] * b_and_c[row + params.b_offset];
            y[i] += s * b_and_c[row + params.c_offset];
        }
        state[at + n * columns] = s;
    }
    for (var i = 0u; i < span.w; i++) {
        let row = span.y + i;
        let gate = apply(params.function, z[(row * params.projected_pitch + params.z_offset) / NUMBERS + within]);
        out[row * params.out_pitch / NUMBERS + within] = y[i] * gate;
    }
}
