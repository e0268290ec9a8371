// Input of a linear layer by words of four columns: the RMS norm of a value, but for the factor of its row.
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
var<private> squares: array<f32, ROWS>;

fn load_x(row: u32, chunk: u32) -> Eight {
    let at = (row * params.x_pitch + params.x_offset) / 4u + 2u * chunk;
    let value = within(params.columns, chunk, Eight(x[at], x[at + 1u]));
    squares[row] += dot8(value, value);
    return scaled_by_norm(chunk, value);
}
