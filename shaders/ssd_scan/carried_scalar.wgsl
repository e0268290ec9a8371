// Reads C and the states that chunks begin with by single numbers, wherever they lie.
@group(0) @binding(5) var<storage, read> c: array<f32>;                  // [rows, c_pitch]
@group(0) @binding(7) var<storage, read> chunk_state: array<f32>;        // [chunks, heads, N, P]

fn quad_of_c(at: u32) -> vec4<f32> { return vec4(c[at], c[at + 1u], c[at + 2u], c[at + 3u]); }
fn quad_of_state(at: u32) -> vec4<f32> {
    return vec4(chunk_state[at], chunk_state[at + 1u], chunk_state[at + 2u], chunk_state[at + 3u]);
}
