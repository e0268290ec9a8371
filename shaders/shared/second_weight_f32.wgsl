// A second matrix, as shared/weight_f32.wgsl has the first.
@group(0) @binding(3) var<storage, read> second_weight: array<vec4<f32>>;

fn load_second_weight(row: u32, chunks: u32, chunk: u32) -> Eight {
    let at = 2u * (row * chunks + chunk);
    return Eight(second_weight[at], second_weight[at + 1u]);
}
