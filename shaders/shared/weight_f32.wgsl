// A matrix in f32. `weight`: [rows, columns padded to 8], two words of 16 bytes a chunk.
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;

fn load_weight(row: u32, chunks: u32, chunk: u32) -> Eight {
    let at = 2u * (row * chunks + chunk);
    return Eight(weight[at], weight[at + 1u]);
}
