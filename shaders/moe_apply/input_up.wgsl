// The tiles of `up`: from a row's x to what is hidden.
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;            // [rows, x_pitch]
@group(0) @binding(5) var<storage, read_write> hidden: array<f32>;       // [pairs, hidden_pitch]

// Columns past the end may hold anything, even NaN, which a weight of 0 does not cancel.
fn load_input(pair: u32, word: u32) -> vec4<f32> {
    if 4u * word >= params.columns { return vec4(0.0); }
    let left = vec4(params.columns - 4u * word);
    return select(vec4(0.0), x[pair / params.top_k * params.x_pitch / 4u + word], vec4(0u, 1u, 2u, 3u) < left);
}

fn store(pair: u32, output: u32, value: f32) { hidden[pair * params.hidden_pitch + output] = value; }
