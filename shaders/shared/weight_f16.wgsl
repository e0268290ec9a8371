// Eight consecutive weights at a time, stored as f16, two to a u32; needs no f16 arithmetic.
// `weight`: [rows, columns padded to 8], 1 word a chunk.
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

struct Eight { low: vec4<f32>, high: vec4<f32> }

fn unpack_weights(packed: vec4<u32>) -> Eight {
    return Eight(
        vec4(unpack2x16float(packed.x), unpack2x16float(packed.y)),
        vec4(unpack2x16float(packed.z), unpack2x16float(packed.w)),
    );
}

fn load_weight(chunk: u32) -> Eight { return unpack_weights(weight[chunk]); }
