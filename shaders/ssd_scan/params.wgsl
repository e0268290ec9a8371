// What the kernels of ssd_scan are told; its decode has parameters of its own.
struct Params {
    heads: u32,
    groups: u32,
    head_dim: u32,      // P, of a head
    d_state: u32,       // N
    x_pitch: u32,
    x_offset: u32,
    dt_pitch: u32,
    dt_offset: u32,
    b_pitch: u32,
    b_offset: u32,
    c_pitch: u32,
    c_offset: u32,
    out_pitch: u32,
    a_at: u32,          // in `vectors`: [heads], negative
    d_at: u32,          // in `vectors`: [heads]
    dt_bias_at: u32,    // in `vectors`: [heads]
    chunks_at: u32,
    chunk_states: u32,  // numbers of one chunk's states
    decays_at: u32,     // in `chunk_state`
    dt_low: f32,
    dt_high: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
