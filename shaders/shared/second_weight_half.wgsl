// A second matrix, as shared/weight_f16.wgsl or shared/weight_bf16.wgsl has the first.
@group(0) @binding(3) var<storage, read> second_weight: array<vec4<u32>>;

fn load_second_weight(row: u32, chunks: u32, chunk: u32) -> Eight {
    return unpack_weights(second_weight[row * chunks + chunk]);
}
