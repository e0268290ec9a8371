// The tiles of `down`: from what is hidden to the pair's own result.
@group(0) @binding(4) var<storage, read> hidden: array<f32>;             // [pairs, hidden_pitch]
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;         // [pairs, sums_pitch]

fn load_input(pair: u32, word: u32) -> vec4<f32> { return inner(pair, word); }

fn store(pair: u32, output: u32, value: f32) { sums[pair * params.sums_pitch + output] = value; }
