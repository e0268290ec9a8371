// The steps of one head over one chunk, in workgroup memory.
var<workgroup> deltas: array<f32, CHUNK_ROWS>;
var<workgroup> sums: array<f32, CHUNK_ROWS>;

// D of each row of a long chunk, and the running sum of D a up to and with it; the chunk. An unused workgroup works on no
// rows: all lanes must reach the barriers.
fn load_steps(lane: u32, head: u32, which: u32) -> vec4<u32> {
    var chunk = chunk_at(which);
    if which >= long_chunk_count() { chunk = vec4(0u); }
    if lane < chunk.y {
        let raw = dt[(chunk.x + lane) * params.dt_pitch + params.dt_offset + head] + vectors[params.dt_bias_at + head];
        deltas[lane] = limited(softplus(raw), params.dt_low, params.dt_high);
    }
    workgroupBarrier();
    if lane == 0u {
        var sum = 0.0;
        for (var i = 0u; i < chunk.y; i++) {
            sum += deltas[i] * vectors[params.a_at + head];
            sums[i] = sum;
        }
    }
    workgroupBarrier();
    return chunk;
}
