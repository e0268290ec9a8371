// Numbers of a block, in f32.
@group(0) @binding(1) var<storage, read> source: array<f32>;

fn number_at(index: u32) -> f32 { return source[index]; }
