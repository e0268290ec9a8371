// The steps of one head over one chunk, in workgroup memory.
var<workgroup> deltas: array<f32, CHUNK_ROWS>;
var<workgroup> sums: array<f32, CHUNK_ROWS>;

// D of each row of the chunk, and the running sum of D a up to and with it.
fn load_steps(lane: u32, head: u32, chunk: vec4<u32>) {
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
}
