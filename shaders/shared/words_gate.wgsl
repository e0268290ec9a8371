// Input of a linear layer by words of four columns: function(x) * second.
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
@group(0) @binding(7) var<storage, read> second: array<vec4<f32>>;       // [rows, second_pitch]

fn load_x(row: u32, chunk: u32) -> Eight {
    let at = (row * params.x_pitch + params.x_offset) / 4u + 2u * chunk;
    let other = (row * params.second_pitch + params.second_offset) / 4u + 2u * chunk;
    let low = apply(params.function, x[at]) * second[other];
    let high = apply(params.function, x[at + 1u]) * second[other + 1u];
    return within(params.columns, chunk, Eight(low, high));
}

fn begin() {}
fn factor(row: u32) -> f32 { return 1.0; }
