// 8 x 8 numbers of a product of matrices, in registers: four quarters, column i of each the quarter's row i.
struct Tile {
    low_low: mat4x4<f32>,
    low_high: mat4x4<f32>,
    high_low: mat4x4<f32>,
    high_high: mat4x4<f32>,
}

// Column i of the result is a[i] b.
fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> { return mat4x4(a.x * b, a.y * b, a.z * b, a.w * b); }

// Adds the outer product of eight numbers a and eight numbers b.
fn add_outer(tile: ptr<function, Tile>, a_low: vec4<f32>, a_high: vec4<f32>, b_low: vec4<f32>, b_high: vec4<f32>) {
    (*tile).low_low += outer(a_low, b_low);
    (*tile).low_high += outer(a_low, b_high);
    (*tile).high_low += outer(a_high, b_low);
    (*tile).high_high += outer(a_high, b_high);
}
