// The weight of an RMS norm for a chunk, and the factor of a row by what its input summed up.
fn scaled_by_norm(chunk: u32, value: Eight) -> Eight {
    let at = params.norm_at / 4u + 2u * chunk;
    return within(params.columns, chunk, Eight(value.low * vectors[at], value.high * vectors[at + 1u]));
}

fn begin() { squares = array<f32, ROWS>(); }

fn factor(row: u32) -> f32 {
    return inverse_root(subgroupAdd(squares[row]) / f32(params.columns) + params.eps);
}
