// The weights of a second matrix, as shared/weight_bf16.wgsl has those of the first.
@group(0) @binding(3) var<storage, read> second_weight: array<vec4<u32>>;

fn load_second_weight(chunk: u32) -> Eight { return unpack_weights(second_weight[chunk]); }
