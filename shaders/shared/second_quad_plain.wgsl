// A quad of a second matrix, as shared/quad_plain.wgsl has those of the first.
fn load_second_quad(quad: u32, chunks: u32, chunk: u32) -> Quad {
    let row = 4u * quad;
    return Quad(
        load_second_weight(row, chunks, chunk), load_second_weight(row + 1u, chunks, chunk),
        load_second_weight(row + 2u, chunks, chunk), load_second_weight(row + 3u, chunks, chunk),
    );
}
