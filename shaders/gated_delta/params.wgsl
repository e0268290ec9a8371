// What the kernels of the gated delta rule share. `scratch` holds, one after the other:
//   [chunks, heads, keys, values]       the state that each chunk of a long span begins with
//   [chunks, heads, 32, 32]             the inverse of each, with the corrections folded in
//   [rows, heads, 2]                    g and B of each row (see gated_delta/gates.wgsl)
struct Params {
    heads: u32,         // of values
    key_heads: u32,     // of queries and of keys
    keys: u32,          // columns of a query or key
    values: u32,        // columns of a value
    q_pitch: u32,
    q_offset: u32,
    k_pitch: u32,
    k_offset: u32,
    v_pitch: u32,
    v_offset: u32,
    beta_pitch: u32,
    beta_offset: u32,
    dt_pitch: u32,
    dt_offset: u32,
    out_pitch: u32,
    a_at: u32,          // in `vectors`: [heads], negative
    dt_bias_at: u32,    // in `vectors`: [heads]
    chunks_at: u32,
    inverses_at: u32,   // in `scratch`
    gates_at: u32,      // in `scratch`
    scale: f32,         // of queries
}
@group(0) @binding(0) var<uniform> params: Params;

// First column of a value head's queries and keys.
fn key_column(head: u32) -> u32 { return head / (params.heads / params.key_heads) * params.keys; }
