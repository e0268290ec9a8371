// What the kernels of selective_scan are told.
struct Params {
    channels: u32,
    x_pitch: u32,
    x_offset: u32,
    dt_pitch: u32,
    dt_offset: u32,
    b_pitch: u32,
    b_offset: u32,
    c_pitch: u32,
    c_offset: u32,
    out_pitch: u32,
    a_at: u32,          // in `vectors`: [channels, STATES], negative
    d_at: u32,          // in `vectors`: [channels]
    chunks_at: u32,
    chunk_states: u32,  // numbers of one chunk's states
    decays_at: u32,     // in `chunk_state`
}
@group(0) @binding(0) var<uniform> params: Params;
