// A *quad* of a matrix in codes of 4 bits: four rows, here a chunk of each. A number is factor * code + addend.
// Such a matrix has a record for every quad, in words of 16 bytes. First the codes: a word holds a chunk of the
// four rows, a component a row, the first column lowest. Then scales. So a lane's word serves four outputs, and
// lanes that follow one another read words that do, of weights and of x.
struct Scales { factor: vec4<f32>, addend: vec4<f32> }
struct Quad { a: Eight, b: Eight, c: Eight, d: Eight, scales: Scales }

fn quad_of(a: Eight, b: Eight, c: Eight, d: Eight) -> Quad {
    return Quad(a, b, c, d, Scales(vec4(1.0), vec4(0.0)));
}

fn codes_at(quad: u32, chunks: u32, chunk: u32) -> u32 { return quad * record_words(chunks) + chunk; }

fn unpack_codes(codes: u32) -> Eight {
    return Eight(
        vec4<f32>((vec4(codes) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u)),
        vec4<f32>((vec4(codes) >> vec4(16u, 20u, 24u, 28u)) & vec4(15u)),
    );
}

fn unpack_quad(codes: vec4<u32>, scales: vec4<u32>, chunk: u32) -> Quad {
    return Quad(
        unpack_codes(codes.x), unpack_codes(codes.y), unpack_codes(codes.z), unpack_codes(codes.w),
        unpack_scales(scales, chunk),
    );
}

fn load_quad(quad: u32, chunks: u32, chunk: u32) -> Quad {
    return unpack_quad(weight[codes_at(quad, chunks, chunk)], weight[scales_at(quad, chunks, chunk)], chunk);
}

// The codes have no sign: what is added to each number counts once for the sum of x.
fn quad_dot(quad: Quad, x: Eight) -> vec4<f32> {
    let dots = vec4(dot8(quad.a, x), dot8(quad.b, x), dot8(quad.c, x), dot8(quad.d, x));
    return quad.scales.factor * dots + quad.scales.addend * dot(x.low + x.high, vec4(1.0));
}

fn load_weight(row: u32, chunks: u32, chunk: u32) -> Eight {
    let codes = unpack_codes(weight[codes_at(row / 4u, chunks, chunk)][row % 4u]);
    let scales = unpack_scales(weight[scales_at(row / 4u, chunks, chunk)], chunk);
    let factor = scales.factor[row % 4u];
    let addend = scales.addend[row % 4u];
    return Eight(factor * codes.low + addend, factor * codes.high + addend);
}
