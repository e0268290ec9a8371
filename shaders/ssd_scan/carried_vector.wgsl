// Reads C and the states that chunks begin with by four numbers at once: see read_vector.wgsl.
@group(0) @binding(5) var<storage, read> c: array<vec4<f32>>;            // [rows, c_pitch / 4]
@group(0) @binding(7) var<storage, read> chunk_state: array<vec4<f32>>;  // [chunks, heads, N, P / 4]

fn quad_of_c(at: u32) -> vec4<f32> { return c[at / 4u]; }
fn quad_of_state(at: u32) -> vec4<f32> { return chunk_state[at / 4u]; }
