// Input of a linear layer: a value as it is, read four columns at a time.
@group(0) @binding(6) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]

fn prepare(lane: u32, group: u32) {}

// Columns past the end may hold anything, even NaN, which a weight of 0 does not cancel.
fn load_x(row: u32, chunk: u32) -> Eight {
    let at = (row * params.x_pitch) / 4u + 2u * chunk;
    var value = Eight(x[at], x[at + 1u]);
    if 8u * chunk + 8u > params.columns {
        let left = vec4(params.columns - 8u * chunk);
        value.low = select(vec4(0.0), value.low, vec4(0u, 1u, 2u, 3u) < left);
        value.high = select(vec4(0.0), value.high, vec4(4u, 5u, 6u, 7u) < left);
    }
    return value;
}
