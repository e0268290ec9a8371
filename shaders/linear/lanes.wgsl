// linear for many rows (prefill) without workgroup memory: out[r, o] = sum_i weight[o, i] x[r, i] + bias[o].
//
// Tiling: a workgroup makes ROWS rows of 4 * LANES outputs, an invocation those of one quad: 8 x 4 sums in registers.
// Lane k of a subgroup loads a chunk of row k % ROWS; every lane gets each of them by a broadcast. So an invocation
// loads one chunk of x and four of the matrix for 256 multiplications.
// Barriers: none.
// Limits: subgroups of ROWS lanes or more. A weight of several segments is one dispatch a segment.
// Source: the register tile of a matrix product, Goto and van de Geijn 2008 (ACM TOMS 34, 3), section 4, with a
// subgroup in the place of a vector register.
const LANES = 32u;
const ROWS = 8u;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

fn store(row: u32, quad: u32, used: u32, value: vec4<f32>) {
    if row >= used { return; }
    for (var i = 0u; i < 4u; i++) {
        let output = 4u * quad + i;
        if output < params.rows {
            let column = params.out_offset + output;
            var bias = 0.0;
            if params.bias_at != NONE { bias = vectors[params.bias_at + column]; }
            out[row * params.out_pitch + column] = value[i] + bias;
        }
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) within_subgroup: u32,
) {
    let row = workgroup.y * ROWS;
    let used = rows_in_use(params.outputs);
    if row >= used { return; }
    let index = workgroup.x * LANES + lane;
    let quad = min(index, (params.rows - 1u) / 4u);
    let x_at = min(row + within_subgroup % ROWS, params.capacity - 1u) * params.x_pitch;
    var sums: EightRows;   // of the four outputs
    for (var chunk = 0u; chunk < params.chunks; chunk++) {
        let weights = numbers(load_quad(quad, params.chunks, chunk));
        let at = x_at + 2u * chunk;
        let mine = within(params.columns, chunk, Eight(x[at], x[at + 1u]));
        sums.a += products(weights, Eight(subgroupBroadcast(mine.low, 0u), subgroupBroadcast(mine.high, 0u)));
        sums.b += products(weights, Eight(subgroupBroadcast(mine.low, 1u), subgroupBroadcast(mine.high, 1u)));
        sums.c += products(weights, Eight(subgroupBroadcast(mine.low, 2u), subgroupBroadcast(mine.high, 2u)));
        sums.d += products(weights, Eight(subgroupBroadcast(mine.low, 3u), subgroupBroadcast(mine.high, 3u)));
        sums.e += products(weights, Eight(subgroupBroadcast(mine.low, 4u), subgroupBroadcast(mine.high, 4u)));
        sums.f += products(weights, Eight(subgroupBroadcast(mine.low, 5u), subgroupBroadcast(mine.high, 5u)));
        sums.g += products(weights, Eight(subgroupBroadcast(mine.low, 6u), subgroupBroadcast(mine.high, 6u)));
        sums.h += products(weights, Eight(subgroupBroadcast(mine.low, 7u), subgroupBroadcast(mine.high, 7u)));
    }
    store(row, index, used, sums.a);
    store(row + 1u, index, used, sums.b);
    store(row + 2u, index, used, sums.c);
    store(row + 3u, index, used, sums.d);
    store(row + 4u, index, used, sums.e);
    store(row + 5u, index, used, sums.f);
    store(row + 6u, index, used, sums.g);
    store(row + 7u, index, used, sums.h);
}
