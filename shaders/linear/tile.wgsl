// linear for many rows (prefill): out[r, o] = sum_i weight[o, i] x[r, i] + bias[o].
//
// Tiling: shared/tile.wgsl; a workgroup for TILE_ROWS rows and TILE_OUTS outputs, 256 invocations.
// A weight of several segments is one dispatch a segment.
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
@group(0) @binding(4) var<storage, read> vectors: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

// Columns past the end may hold anything, even NaN, which a weight of 0 does not cancel.
fn load_input(row: u32, word: u32) -> vec4<f32> {
    if 4u * word >= params.columns { return vec4(0.0); }
    let left = vec4(params.columns - 4u * word);
    return select(vec4(0.0), x[row * params.x_pitch + word], vec4(0u, 1u, 2u, 3u) < left);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_out = workgroup.x * TILE_OUTS;
    let first_row = workgroup.y * TILE_ROWS;
    let used = rows_in_use(params.outputs);
    if first_row >= used { return; }
    let x_row = min(first_row + lane / STEP, params.capacity - 1u);
    let w_row = min(first_out + lane / STEP_CHUNKS, params.rows - 1u);
    var sums = Products(vec4(0.0), vec4(0.0));
    for (var base = 0u; base < params.chunks; base += STEP_CHUNKS) {
        let chunk = base + lane % STEP_CHUNKS;
        var weights = Eight(vec4(0.0), vec4(0.0));
        if chunk < params.chunks { weights = load_weight(w_row, params.chunks, chunk); }
        sums = tile_step(lane, load_input(x_row, 2u * base + lane % STEP), weights, sums);
    }
    for (var i = 0u; i < 4u; i++) {
        let output = first_out + tile_out(lane) + i;
        if output >= params.rows { break; }
        let column = params.out_offset + output;
        var bias = 0.0;
        if params.bias_at != NONE { bias = vectors[params.bias_at + column]; }
        let row = first_row + tile_row(lane);
        if row < used { out[row * params.out_pitch + column] = sums.first[i] + bias; }
        if row + 1u < used { out[(row + 1u) * params.out_pitch + column] = sums.second[i] + bias; }
    }
}
