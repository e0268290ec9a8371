// embed: out[r] = table[token(r)] * scale.
//
// Tiling: one invocation for eight columns of one row. A table of several segments (a binding holds
// 128 MiB at least, a vocabulary may need more) is read by one dispatch a segment; each writes only
// the rows whose token lies in its segment.
// Limits: none beyond the binding. Source: a table look-up.
struct Params {
    chunks: u32,        // of eight columns, a row of the table
    columns: u32,       // of the result
    pitch: u32,         // of the result
    first: u32,         // first id of this segment
    rows: u32,          // ids in this segment
    scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read> samplers: array<u32>;           // [slots + 1, SAMPLER_WORDS]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [rows, pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / params.chunks;
    let chunk = index % params.chunks;
    if row >= row_count() { return; }
    let entry = row_at(row);
    var token = entry.x;
    if token == TOKEN_OF_SLOT { token = samplers[entry.y * SAMPLER_WORDS + LAST_TOKEN]; }
    if token < params.first || token - params.first >= params.rows { return; }
    let value = load_weight(token - params.first, params.chunks, chunk);
    for (var i = 0u; i < 8u; i++) {
        let column = chunk * 8u + i;
        if column < params.columns {
            out[row * params.pitch + column] = params.scale * select(value.high[i % 4u], value.low[i % 4u], i < 4u);
        }
    }
}
