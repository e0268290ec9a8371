// linear for many rows (prefill): out[r, o] = sum_i weight[o, i] x[r, i] + bias[o].
//
// Tiling: a workgroup of 16 x 16 makes 32 rows x 64 outputs, each invocation 2 x 4, in steps of 32
// inputs that are staged in workgroup memory as f32.
// Barriers: two a step. Limits: 12 KiB of workgroup memory, 256 invocations.
// A weight of several segments is one dispatch a segment.
struct Params {
    chunks: u32,        // of eight inputs
    columns: u32,       // inputs
    rows: u32,          // outputs of this segment
    x_pitch: u32,       // in words of four
    out_pitch: u32,
    out_offset: u32,    // first output of this segment
    bias_at: u32,       // in `vectors`, of output 0; NONE: no bias
    capacity: u32,      // rows of x
    outputs: u32,       // 1: the rows are outputs
}
const TILE_ROWS = 32u;
const TILE_OUTS = 64u;
const STEP = 8u;        // words of four inputs
const NONE = 0xffffffffu;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

var<workgroup> x_tile: array<vec4<f32>, TILE_ROWS * STEP>;
var<workgroup> w_tile: array<vec4<f32>, TILE_OUTS * STEP>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_out = workgroup.x * TILE_OUTS;
    let first_row = workgroup.y * TILE_ROWS;
    let used = rows_in_use(params.outputs);
    if first_row >= used { return; }
    // This lane's part of staging: one word of x, one chunk (two words) of the weight.
    let x_row = min(first_row + lane / STEP, params.capacity - 1u);
    let x_word = lane % STEP;
    let w_row = min(first_out + lane / 4u, params.rows - 1u);
    let w_chunk = lane % 4u;
    // And of the result.
    let row = 2u * (lane / 16u);
    let out_at = 4u * (lane % 16u);

    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    for (var base = 0u; base < params.chunks; base += STEP / 2u) {
        let word = 2u * base + x_word;
        var value = vec4(0.0);
        if 4u * word < params.columns {
            let left = vec4(params.columns - 4u * word);
            value = select(vec4(0.0), x[x_row * params.x_pitch + word], vec4(0u, 1u, 2u, 3u) < left);
        }
        x_tile[lane] = value;
        var weights = Eight(vec4(0.0), vec4(0.0));
        if base + w_chunk < params.chunks { weights = load_weight(w_row * params.chunks + base + w_chunk); }
        w_tile[2u * lane] = weights.low;
        w_tile[2u * lane + 1u] = weights.high;
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let a0 = x_tile[row * STEP + k];
            let a1 = x_tile[(row + 1u) * STEP + k];
            let b0 = w_tile[out_at * STEP + k];
            let b1 = w_tile[(out_at + 1u) * STEP + k];
            let b2 = w_tile[(out_at + 2u) * STEP + k];
            let b3 = w_tile[(out_at + 3u) * STEP + k];
            sum0 += vec4(dot(a0, b0), dot(a0, b1), dot(a0, b2), dot(a0, b3));
            sum1 += vec4(dot(a1, b0), dot(a1, b1), dot(a1, b2), dot(a1, b3));
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let output = first_out + out_at + i;
        if output >= params.rows { break; }
        let column = params.out_offset + output;
        var bias = 0.0;
        if params.bias_at != NONE { bias = vectors[params.bias_at + column]; }
        let target_row = first_row + row;
        if target_row < used { out[target_row * params.out_pitch + column] = sum0[i] + bias; }
        if target_row + 1u < used { out[(target_row + 1u) * params.out_pitch + column] = sum1[i] + bias; }
    }
}
