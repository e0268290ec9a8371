// Reads x and B by single numbers, wherever they lie.
@group(0) @binding(2) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(4) var<storage, read> b: array<f32>;                  // [rows, b_pitch]

fn quad_of_x(at: u32) -> vec4<f32> { return vec4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]); }
fn quad_of_b(at: u32) -> vec4<f32> { return vec4(b[at], b[at + 1u], b[at + 2u], b[at + 3u]); }

// Zeros past the last of `left` states.
fn up_to(left: u32, values: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), values, vec4(0u, 1u, 2u, 3u) < vec4(left));
}
