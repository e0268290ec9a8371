// The gates of one head over one chunk, in workgroup memory: the running sums of g up to and with each row,
// and B. Past the last row the sums stay and B is 0, so that such rows change nothing.
var<workgroup> sums: array<f32, CHUNK_ROWS>;
var<workgroup> betas: array<f32, CHUNK_ROWS>;

fn load_gates(lane: u32, head: u32, chunk: vec4<u32>) {
    if lane < CHUNK_ROWS {
        var gate = vec2(0.0);
        if lane < chunk.y {
            let at = params.gates_at + 2u * ((chunk.x + lane) * params.heads + head);
            gate = vec2(scratch[at], scratch[at + 1u]);
        }
        sums[lane] = gate.x;
        betas[lane] = gate.y;
    }
    workgroupBarrier();
    if lane == 0u {
        for (var i = 1u; i < CHUNK_ROWS; i++) { sums[i] += sums[i - 1u]; }
    }
    workgroupBarrier();
}
