// Input of a linear layer: the RMS norm of x plus scale times the RMS norm of a second value.
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(7) var<storage, read> second: array<f32>;             // [rows, second_pitch]
var<private> factors: array<vec2<f32>, ROWS>;

fn raw_at(row: u32, column: u32) -> vec2<f32> {
    return vec2(
        x[row * params.x_pitch + params.x_offset + column],
        second[row * params.second_pitch + params.second_offset + column],
    );
}

fn prepare(lane: u32, group: u32) {
    for (var row = 0u; row < ROWS; row++) {
        var squares = vec2(0.0);
        for (var column = lane; column < params.columns; column += LANES) {
            let values = raw_at(row, column);
            squares += values * values;
        }
        let total = reduce_sum(lane, vec4(squares, 0.0, 0.0)).xy;
        let sums = total / f32(params.columns) + params.eps;
        factors[row] = vec2(inverse_root(sums.x), inverse_root(sums.y));
    }
}

fn input_at(row: u32, column: u32) -> f32 {
    let normed = raw_at(row, column) * factors[row];
    return normed.x * vectors[params.norm_at + column] + params.scale * normed.y * vectors[params.second_norm_at + column];
}
