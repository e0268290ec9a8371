// linear for few rows (decode) without barriers: out[r, o] = sum_i weight[o, i] x[r, i] + bias[o], and where an addition
// follows, out = addend + addend_scale * that.
//
// x as in rows.wgsl; a norm of it is one number a row, which multiplies the sums at the end: shared/words_*.wgsl.
// Tiling: a subgroup makes the four outputs of a quad for all ROWS rows, then of another; its lanes stride over the inputs,
// eight at a time.
// Barriers: none; a sum over the subgroup for each row.
// Limits: ROWS <= 8 (registers); the lanes of a subgroup follow one another in a workgroup; inputs begin at multiples of
// four columns. A weight of several segments is one dispatch a segment.
const LANES = 64u;
const OUTS = 4u;
@group(0) @binding(3) var<storage, read> vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]
@group(0) @binding(5) var<storage, read> addend: array<f32>;             // [rows, addend_pitch]

// Whether this subgroup makes the first quad.
var<private> is_first: bool;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) within_subgroup: u32,
    @builtin(subgroup_size) subgroup_size: u32,
) {
    let size = min(subgroup_size, LANES);
    let subgroups = LANES / size;
    let quads = (params.rows + OUTS - 1u) / OUTS;
    let stride = workgroups.x * workgroups.y * subgroups;
    for (var base = wrapped(workgroup, workgroups) * subgroups; base < quads; base += stride) {
        let index = base + lane / size;
        is_first = index == 0u;
        begin();
        let quad = min(index, quads - 1u);
        var sums = array<vec4<f32>, ROWS>();
        for (var chunk = within_subgroup; chunk < params.chunks; chunk += size) {
            let weights = load_quad(quad, params.chunks, chunk);
            for (var row = 0u; row < ROWS; row++) { sums[row] += quad_dot(weights, load_x(row, chunk)); }
        }
        for (var row = 0u; row < ROWS; row++) {
            let total = subgroupAdd(sums[row]) * factor(row);
            let output = OUTS * index + within_subgroup;
            if within_subgroup < OUTS && output < params.rows {
                var value = total[within_subgroup];
                let column = params.out_offset + output;
                if params.bias_at != NONE {
                    let at = params.bias_at + column;
                    value += vectors[at / 4u][at % 4u];
                }
                if params.addend_pitch > 0u {
                    value = addend[row * params.addend_pitch + params.addend_offset + column] + params.addend_scale * value;
                }
                out[row * params.out_pitch + column] = value;
            }
        }
    }
}
