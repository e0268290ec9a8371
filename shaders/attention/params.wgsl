// What the kernels of attention are told.
struct Params {
    heads: u32,
    kv_heads: u32,
    key_width: u32,
    value_width: u32,
    q_pitch: u32,
    q_offset: u32,
    k_pitch: u32,
    k_offset: u32,
    v_pitch: u32,
    v_offset: u32,
    out_pitch: u32,
    pinned: u32,
    ring: u32,          // rows of a slot's ring; 0: pages
    window: u32,        // keys back that a row of a longer span sees
    decode_window: u32, // the same for a span of one row
    pages_per_slot: u32,
    chunks_at: u32,
    slices: u32,        // of the keys; 1: a workgroup sees all of them
    scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
