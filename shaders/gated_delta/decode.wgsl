// The gated delta rule of few rows with everything around it: the norms of queries and keys, the gates, the
// rule as in gated_delta/step.wgsl, the norm of each head's result, and its gate.
//   q <- q / sqrt(sum q^2 + key_eps), k likewise;   out = function(z) (y / sqrt(mean y^2 + eps)) weight
//
// Tiling: one workgroup for one head of one span, because the norm needs all of a head's columns; 32 of them
// at a time. A lane owns every eighth number of the state of its columns, in the buffer.
// Barriers: two a row and block of columns, two reductions a row. Limits: none; 8 KiB of workgroup memory.
// Source: as for the parts; the layer is Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464, figure 1.
struct Params {
    heads: u32,         // of values
    key_heads: u32,     // of queries and of keys
    keys: u32,          // columns of a query or key
    values: u32,        // columns of a value
    x_pitch: u32,
    q_offset: u32,      // in x, as k and v
    k_offset: u32,
    v_offset: u32,
    projected_pitch: u32,
    beta_offset: u32,   // in `projected`, as dt and z
    dt_offset: u32,
    z_offset: u32,
    out_pitch: u32,
    a_at: u32,          // in `vectors`: [heads], negative
    dt_bias_at: u32,    // in `vectors`: [heads]
    norm_at: u32,       // in `vectors`: [heads or 1, values]
    norm_pitch: u32,    // of the heads' weights; 0: all have the same
    function: u32,      // of the gate
    scale: f32,         // of queries
    key_eps: f32,
    eps: f32,
}
const COLUMNS = 32u;
const PARTS = 8u;
const LANES = COLUMNS * PARTS;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]: q, k, v
@group(0) @binding(3) var<storage, read> projected: array<f32>;          // [rows, projected_pitch]: beta, dt, z
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;        // [slots + 1, heads, keys, values]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

var<workgroup> partial: array<vec2<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let head = index % params.heads;
    if index / params.heads >= span_count() { return; }
    let span = span_at(index / params.heads);
    let key_column = head / (params.heads / params.key_heads) * params.keys;
    let here = lane % COLUMNS;
    let part = lane / COLUMNS;
    let a = vectors[params.a_at + head];
    let bias = vectors[params.dt_bias_at + head];
    let state_at = (span.x * params.heads + head) * params.keys * params.values;
    for (var row = span.y; row < span.y + span.w; row++) {
        let q_from = row * params.x_pitch + params.q_offset + key_column;
        let k_from = row * params.x_pitch + params.k_offset + key_column;
        let v_from = row * params.x_pitch + params.v_offset + head * params.values;
        let to = row * params.out_pitch + head * params.values;
        // q . q, k . k and q . k.
        var own = vec4(0.0);
        for (var i = lane; i < params.keys; i += LANES) {
            let query = x[q_from + i];
            let key = x[k_from + i];
            own += vec4(query * query, key * key, query * key, 0.0);
        }
        let products = reduce_sum(lane, own);
        let q_factor = params.scale * inverse_root(products.x + params.key_eps);
        let k_factor = inverse_root(products.y + params.key_eps);
        let start = row * params.projected_pitch;
        let decay = exp(a * softplus(projected[start + params.dt_offset + head] + bias));
        let beta = sigmoid(projected[start + params.beta_offset + head]);

        var squares = 0.0;
        for (var block = 0u; block < params.values; block += COLUMNS) {
            let column = block + here;
            let used = column < params.values;
            // Lanes past the last column do another's sums again, and write nothing.
            let at = state_at + min(column, params.values - 1u);
            var sums = vec2(0.0);
            for (var i = part; i < params.keys; i += PARTS) {
                sums += state[at + i * params.values] * vec2(x[k_from + i], x[q_from + i]);
            }
            partial[lane] = sums;
            workgroupBarrier();
            var total = vec2(0.0);
            for (var other = here; other < LANES; other += COLUMNS) { total += partial[other]; }
            workgroupBarrier();
            if used {
                let error = beta * (x[v_from + column] - decay * k_factor * total.x);
                for (var i = part; i < params.keys; i += PARTS) {
                    let place = at + i * params.values;
                    state[place] = decay * state[place] + k_factor * x[k_from + i] * error;
                }
                if part == 0u {
                    let y = q_factor * (decay * total.y + k_factor * products.z * error);
                    out[to + column] = y;
                    squares += y * y;
                }
            }
        }
        let sum = reduce_sum(lane, vec4(squares, 0.0, 0.0, 0.0)).x;
        let factor = inverse_root(sum / f32(params.values) + params.eps);
        if part == 0u {
            for (var column = here; column < params.values; column += COLUMNS) {
                let weight = vectors[params.norm_at + head * params.norm_pitch + column];
                let z = projected[start + params.z_offset + head * params.values + column];
                out[to + column] = apply(params.function, z) * (out[to + column] * factor * weight);
            }
        }
    }
}
