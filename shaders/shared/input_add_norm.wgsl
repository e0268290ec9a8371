// Input of a linear layer: the RMS norm of x + scale * second. The sum itself, where the residual
// stream goes on, is kept by the first workgroup.
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(7) var<storage, read> second: array<f32>;             // [rows, second_pitch]
@group(0) @binding(8) var<storage, read_write> sum: array<f32>;          // [rows, sum_pitch]
var<private> factor: array<f32, ROWS>;

fn raw_at(row: u32, column: u32) -> f32 {
    let left = x[row * params.x_pitch + params.x_offset + column];
    return left + params.scale * second[row * params.second_pitch + params.second_offset + column];
}

fn prepare(lane: u32, group: u32) {
    for (var row = 0u; row < ROWS; row++) {
        var squares = 0.0;
        for (var column = lane; column < params.columns; column += LANES) {
            let value = raw_at(row, column);
            if group == 0u && params.sum_pitch > 0u { sum[row * params.sum_pitch + column] = value; }
            squares += value * value;
        }
        let total = reduce_sum(lane, vec4(squares, 0.0, 0.0, 0.0)).x;
        factor[row] = inverse_root(total / f32(params.columns) + params.eps);
    }
}

fn input_at(row: u32, column: u32) -> f32 {
    return raw_at(row, column) * factor[row] * vectors[params.norm_at + column];
}
