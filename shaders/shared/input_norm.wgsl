// Input of a linear layer: the RMS norm of a value.
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
var<private> factor: array<f32, ROWS>;

fn raw_at(row: u32, column: u32) -> f32 { return x[row * params.x_pitch + params.x_offset + column]; }

fn prepare(lane: u32, group: u32) {
    for (var row = 0u; row < ROWS; row++) {
        var squares = 0.0;
        for (var column = lane; column < params.columns; column += LANES) {
            let value = raw_at(row, column);
            squares += value * value;
        }
        let total = reduce_sum(lane, vec4(squares, 0.0, 0.0, 0.0)).x;
        factor[row] = inverse_root(total / f32(params.columns) + params.eps);
    }
}

fn input_at(row: u32, column: u32) -> f32 {
    return raw_at(row, column) * factor[row] * vectors[params.norm_at + column];
}
