// A matrix in codes of 8 bits: scale * code, a scale for every 32 columns of a row.
// `weight`: a record for every quad (four rows), in words of 16 bytes. First the codes: a word holds four columns
// of the four rows, a component a row, the first column lowest. Then the scales in f16: a word holds those of two
// groups. So a lane's word serves four outputs, and lanes that follow one another read words that do, of weights
// and of x.
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

fn record_words(chunks: u32) -> u32 { return 2u * chunks + (chunks + 7u) / 8u; }
fn codes_at(quad: u32, chunks: u32, chunk: u32) -> u32 { return quad * record_words(chunks) + 2u * chunk; }
fn scales_at(quad: u32, chunks: u32, chunk: u32) -> u32 {
    return quad * record_words(chunks) + 2u * chunks + chunk / 8u;
}

fn unpack_scales(scales: vec4<u32>, chunk: u32) -> vec4<f32> {
    let pairs = select(scales.xy, scales.zw, (chunk / 4u) % 2u == 1u);
    return vec4(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}

// A chunk of each row of a quad: codes, and what they are multiplied with.
struct Quad { a: Eight, b: Eight, c: Eight, d: Eight, scale: vec4<f32> }

fn quad_of(a: Eight, b: Eight, c: Eight, d: Eight) -> Quad { return Quad(a, b, c, d, vec4(1.0)); }

fn unpack_quad(low: vec4<u32>, high: vec4<u32>, scales: vec4<u32>, chunk: u32) -> Quad {
    return Quad(
        Eight(unpack_codes(low.x), unpack_codes(high.x)), Eight(unpack_codes(low.y), unpack_codes(high.y)),
        Eight(unpack_codes(low.z), unpack_codes(high.z)), Eight(unpack_codes(low.w), unpack_codes(high.w)),
        unpack_scales(scales, chunk),
    );
}

fn load_quad(quad: u32, chunks: u32, chunk: u32) -> Quad {
    let at = codes_at(quad, chunks, chunk);
    return unpack_quad(weight[at], weight[at + 1u], weight[scales_at(quad, chunks, chunk)], chunk);
}

fn quad_dot(quad: Quad, x: Eight) -> vec4<f32> {
    return quad.scale * vec4(dot8(quad.a, x), dot8(quad.b, x), dot8(quad.c, x), dot8(quad.d, x));
}

fn load_weight(row: u32, chunks: u32, chunk: u32) -> Eight {
    let quad = row / 4u;
    let at = codes_at(quad, chunks, chunk);
    let scale = unpack_scales(weight[scales_at(quad, chunks, chunk)], chunk)[row % 4u];
    return Eight(scale * unpack_codes(weight[at][row % 4u]), scale * unpack_codes(weight[at + 1u][row % 4u]));
}
