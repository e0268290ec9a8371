// What the kernels of linear for few rows are told.
struct Params {
    chunks: u32,            // of eight inputs
    columns: u32,           // inputs
    rows: u32,              // outputs of this segment
    out_pitch: u32,
    out_offset: u32,        // first output of this segment
    bias_at: u32,           // in `vectors`, of output 0; NONE: no bias
    x_pitch: u32,
    x_offset: u32,
    second_pitch: u32,
    second_offset: u32,
    norm_at: u32,           // in `vectors`: the weight of the norm of x
    second_norm_at: u32,    // and of the second input's
    d_conv: u32,
    kernel_at: u32,         // in `vectors`: [columns, d_conv]
    kernel_bias_at: u32,    // in `vectors`: [columns]; NONE: no bias
    function: u32,
    sum_pitch: u32,         // of the sum that is kept; 0: it is not
    addend_pitch: u32,      // 0: nothing is added
    addend_offset: u32,
    groups: u32,            // runs of columns that are normed for themselves
    eps: f32,
    scale: f32,
    addend_scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
