// Input of a linear layer: the RMS norm of each of several equal runs of columns of a value.
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
const MOST_GROUPS = 16u;
var<workgroup> factors: array<f32, ROWS * MOST_GROUPS>;

fn raw_at(row: u32, column: u32) -> f32 { return x[row * params.x_pitch + params.x_offset + column]; }

fn square_at(row: u32, run: u32, width: u32, column: u32) -> f32 {
    if run >= params.groups { return 0.0; }
    let value = raw_at(row, run * width + column);
    return value * value;
}

// Four runs at a time: so many sums one reduction makes.
fn prepare(lane: u32, group: u32) {
    let width = params.columns / params.groups;
    for (var row = 0u; row < ROWS; row++) {
        for (var run = 0u; run < params.groups; run += 4u) {
            var squares = vec4(0.0);
            for (var column = lane; column < width; column += LANES) {
                squares.x += square_at(row, run, width, column);
                squares.y += square_at(row, run + 1u, width, column);
                squares.z += square_at(row, run + 2u, width, column);
                squares.w += square_at(row, run + 3u, width, column);
            }
            let total = reduce_sum(lane, squares);
            if lane < 4u && run + lane < params.groups {
                factors[row * MOST_GROUPS + run + lane] = inverse_root(total[lane] / f32(width) + params.eps);
            }
        }
    }
    workgroupBarrier();
}

fn input_at(row: u32, column: u32) -> f32 {
    let run = column * params.groups / params.columns;
    return raw_at(row, column) * factors[row * MOST_GROUPS + run] * vectors[params.norm_at + column];
}
