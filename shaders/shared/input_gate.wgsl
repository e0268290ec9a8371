// Input of a linear layer: function(x) * second.
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]
@group(0) @binding(7) var<storage, read> second: array<f32>;             // [rows, second_pitch]

fn prepare(lane: u32, group: u32) {}

fn input_at(row: u32, column: u32) -> f32 {
    let gate = apply(params.function, x[row * params.x_pitch + params.x_offset + column]);
    return gate * second[row * params.second_pitch + params.second_offset + column];
}
