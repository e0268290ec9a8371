// Input of a linear layer: function(x) * scale.
@group(0) @binding(6) var<storage, read> x: array<f32>;                  // [rows, x_pitch]

fn prepare(lane: u32, group: u32) {}

fn input_at(row: u32, column: u32) -> f32 {
    return apply(params.function, x[row * params.x_pitch + params.x_offset + column]) * params.scale;
}
