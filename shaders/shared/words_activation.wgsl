// Input of a linear layer by words of four columns: function(x) * scale.
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]

fn load_x(row: u32, chunk: u32) -> Eight {
    let at = (row * params.x_pitch + params.x_offset) / 4u + 2u * chunk;
    let low = params.scale * apply(params.function, x[at]);
    let high = params.scale * apply(params.function, x[at + 1u]);
    return within(params.columns, chunk, Eight(low, high));
}

fn begin() {}
fn factor(row: u32) -> f32 { return 1.0; }
