// A matrix in bf16 (the upper halves of f32), two numbers to a u32.
// `weight`: [rows, columns padded to 8], one word of 16 bytes a chunk.
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

fn unpack_weights(packed: vec4<u32>) -> Eight {
    let even = bitcast<vec4<f32>>(packed << vec4(16u));
    let odd = bitcast<vec4<f32>>(packed & vec4(0xffff0000u));
    return Eight(vec4(even.x, odd.x, even.y, odd.y), vec4(even.z, odd.z, even.w, odd.w));
}

fn load_weight(row: u32, chunks: u32, chunk: u32) -> Eight { return unpack_weights(weight[row * chunks + chunk]); }
