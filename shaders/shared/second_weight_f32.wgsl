// The weights of a second matrix, as shared/weight_f32.wgsl has those of the first.
@group(0) @binding(3) var<storage, read> second_weight: array<vec4<f32>>;

fn load_second_weight(chunk: u32) -> Eight {
    return Eight(second_weight[2u * chunk], second_weight[2u * chunk + 1u]);
}
