// A second matrix, as shared/weight_bytes.wgsl has the first.
@group(0) @binding(3) var<storage, read> second_weight: array<vec4<u32>>;

fn load_second_quad(quad: u32, chunks: u32, chunk: u32) -> Quad {
    let at = codes_at(quad, chunks, chunk);
    return unpack_quad(
        second_weight[at], second_weight[at + 1u], second_weight[scales_at(quad, chunks, chunk)], chunk,
    );
}
