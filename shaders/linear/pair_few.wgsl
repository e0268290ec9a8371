// What the kernels of two linear layers for few rows are told, where their results go, and the input of the second layer.
struct Params {
    chunks: u32,            // of eight inputs, of the first matrix
    columns: u32,           // inputs
    y_chunks: u32,          // and of the second
    y_columns: u32,
    rows: u32,              // outputs of this dispatch
    quad: u32,              // of the segment, with the first of them
    second_quad: u32,
    out_pitch: u32,
    out_offset: u32,        // first output of this dispatch
    x_pitch: u32,
    x_offset: u32,
    second_pitch: u32,      // of what the gate lets through
    second_offset: u32,
    y_pitch: u32,
    function: u32,
    scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]
@group(0) @binding(5) var<storage, read> y: array<vec4<f32>>;            // [rows, y_pitch]

fn load_y(row: u32, chunk: u32) -> Eight {
    let at = (row * params.y_pitch) / 4u + 2u * chunk;
    return within(params.y_columns, chunk, Eight(y[at], y[at + 1u]));
}
