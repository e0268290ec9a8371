// What the kernels of linear for many rows are told.
struct Params {
    chunks: u32,        // of eight inputs
    columns: u32,       // inputs
    rows: u32,          // outputs of this segment
    x_pitch: u32,       // in words of four
    out_pitch: u32,
    out_offset: u32,    // first output of this segment
    bias_at: u32,       // in `vectors`, of output 0; NONE: no bias
    capacity: u32,      // rows of x
    outputs: u32,       // 1: the rows are outputs
}
@group(0) @binding(0) var<uniform> params: Params;
