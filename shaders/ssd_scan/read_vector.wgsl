// Reads x and B by four numbers at once: offsets, pitches, P and N are multiples of four.
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch / 4]
@group(0) @binding(4) var<storage, read> b: array<vec4<f32>>;            // [rows, b_pitch / 4]

fn quad_of_x(at: u32) -> vec4<f32> { return x[at / 4u]; }
fn quad_of_b(at: u32) -> vec4<f32> { return b[at / 4u]; }

// There is nothing past the last of `left` states: their number is a multiple of four.
fn up_to(left: u32, values: vec4<f32>) -> vec4<f32> { return values; }
