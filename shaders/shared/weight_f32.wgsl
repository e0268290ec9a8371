// Eight consecutive weights at a time, in f32. `weight`: [rows, columns padded to 8], 2 words a chunk.
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;

struct Eight { low: vec4<f32>, high: vec4<f32> }

fn load_weight(chunk: u32) -> Eight { return Eight(weight[2u * chunk], weight[2u * chunk + 1u]); }
