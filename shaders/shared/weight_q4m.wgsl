// A matrix in 4 bits: scale * code + minimum, both for every 32 columns of a row.
// `weight`: records of quads, see shared/quad_codes.wgsl; after the codes a word for each group: the four scales
// in f16, and the four minimums.
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

fn record_words(chunks: u32) -> u32 { return chunks + (chunks + 3u) / 4u; }
fn scales_at(quad: u32, chunks: u32, chunk: u32) -> u32 { return quad * record_words(chunks) + chunks + chunk / 4u; }

fn unpack_scales(scales: vec4<u32>, chunk: u32) -> Scales {
    return Scales(
        vec4(unpack2x16float(scales.x), unpack2x16float(scales.y)),
        vec4(unpack2x16float(scales.z), unpack2x16float(scales.w)),
    );
}
