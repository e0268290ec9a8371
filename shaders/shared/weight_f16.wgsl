// A matrix in f16, two numbers to a u32; needs no f16 arithmetic.
// `weight`: [rows, columns padded to 8], one word of 16 bytes a chunk.
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

fn unpack_weights(packed: vec4<u32>) -> Eight {
    return Eight(
        vec4(unpack2x16float(packed.x), unpack2x16float(packed.y)),
        vec4(unpack2x16float(packed.z), unpack2x16float(packed.w)),
    );
}

fn load_weight(row: u32, chunks: u32, chunk: u32) -> Eight { return unpack_weights(weight[row * chunks + chunk]); }
