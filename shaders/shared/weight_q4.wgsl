// A matrix in 4 bits: scale * (code - 8), a scale for every 32 columns of a row.
// `weight`: records of quads, see shared/quad_codes.wgsl; after the codes the scales in f16: a word holds those of
// two groups.
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

fn record_words(chunks: u32) -> u32 { return chunks + (chunks + 7u) / 8u; }
fn scales_at(quad: u32, chunks: u32, chunk: u32) -> u32 { return quad * record_words(chunks) + chunks + chunk / 8u; }

fn unpack_scales(scales: vec4<u32>, chunk: u32) -> Scales {
    let pairs = select(scales.xy, scales.zw, (chunk / 4u) % 2u == 1u);
    let factor = vec4(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
    return Scales(factor, -8.0 * factor);
}
