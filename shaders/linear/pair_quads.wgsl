// Two linear layers whose results are added, for few rows (decode) without barriers: the sum of pair.wgsl, made as in
// quads.wgsl.
// Tiling: a subgroup makes the four outputs of a quad for all ROWS rows; its lanes stride over the inputs of the one
// matrix, then over those of the other, eight at a time.
// Barriers: none; a sum over the subgroup for each row.
// Limits: those of pair.wgsl and of quads.wgsl.
const LANES = 64u;
const OUTS = 4u;

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
        let quad = min(index, quads - 1u);
        var sums = array<vec4<f32>, ROWS>();
        for (var chunk = within_subgroup; chunk < params.chunks; chunk += size) {
            let weights = load_quad(params.quad + quad, params.chunks, chunk);
            for (var row = 0u; row < ROWS; row++) { sums[row] += quad_dot(weights, load_x(row, chunk)); }
        }
        for (var chunk = within_subgroup; chunk < params.y_chunks; chunk += size) {
            let weights = load_second_quad(params.second_quad + quad, params.y_chunks, chunk);
            for (var row = 0u; row < ROWS; row++) { sums[row] += params.scale * quad_dot(weights, load_y(row, chunk)); }
        }
        for (var row = 0u; row < ROWS; row++) {
            let total = subgroupAdd(sums[row]);
            let output = OUTS * index + within_subgroup;
            if within_subgroup < OUTS && output < params.rows {
                out[row * params.out_pitch + params.out_offset + output] = total[within_subgroup];
            }
        }
    }
}
