// The factor of a position: 1 + beta * ln(1 + position / original), of whole contexts. Source: Llama 4's code.
fn growth_at(position: u32) -> f32 {
    if params.beta == 0.0 { return 1.0; }
    return 1.0 + params.beta * log(f32(1u + position / params.original));
}
