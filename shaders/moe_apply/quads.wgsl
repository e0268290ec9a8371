// A chunk of four rows of the weight, which need not be a quad: experts have any number of rows.
fn load_rows(rows: vec4<u32>, chunk: u32) -> Quad {
    if rows.x % 4u == 0u && rows.w == rows.x + 3u { return load_quad(rows.x / 4u, params.chunks, chunk); }
    return quad_of(
        load_weight(rows.x, params.chunks, chunk), load_weight(rows.y, params.chunks, chunk),
        load_weight(rows.z, params.chunks, chunk), load_weight(rows.w, params.chunks, chunk),
    );
}
