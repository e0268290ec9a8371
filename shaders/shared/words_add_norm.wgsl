// Input of a linear layer by words of four columns: the RMS norm of x + scale * second, but for the factor of its row.
// The sum itself, where the residual stream goes on, is kept by the first subgroup.
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
@group(0) @binding(7) var<storage, read> second: array<vec4<f32>>;       // [rows, second_pitch]
@group(0) @binding(8) var<storage, read_write> sum: array<vec4<f32>>;    // [rows, sum_pitch]
var<private> squares: array<f32, ROWS>;

fn load_x(row: u32, chunk: u32) -> Eight {
    let at = (row * params.x_pitch + params.x_offset) / 4u + 2u * chunk;
    let other = (row * params.second_pitch + params.second_offset) / 4u + 2u * chunk;
    let raw = Eight(x[at] + params.scale * second[other], x[at + 1u] + params.scale * second[other + 1u]);
    let value = within(params.columns, chunk, raw);
    if is_first && params.sum_pitch > 0u {
        let to = row * params.sum_pitch / 4u + 2u * chunk;
        sum[to] = value.low;
        sum[to + 1u] = value.high;
    }
    squares[row] += dot8(value, value);
    return scaled_by_norm(chunk, value);
}
