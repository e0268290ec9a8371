// A *quad* of a matrix whose numbers stand for themselves: four rows, here a chunk of each.
struct Quad { a: Eight, b: Eight, c: Eight, d: Eight }

fn quad_of(a: Eight, b: Eight, c: Eight, d: Eight) -> Quad { return Quad(a, b, c, d); }

fn load_quad(quad: u32, chunks: u32, chunk: u32) -> Quad {
    let row = 4u * quad;
    return Quad(
        load_weight(row, chunks, chunk), load_weight(row + 1u, chunks, chunk),
        load_weight(row + 2u, chunks, chunk), load_weight(row + 3u, chunks, chunk),
    );
}

fn quad_dot(quad: Quad, x: Eight) -> vec4<f32> {
    return vec4(dot8(quad.a, x), dot8(quad.b, x), dot8(quad.c, x), dot8(quad.d, x));
}
