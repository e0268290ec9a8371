// kv_append: puts a span's keys and values where later steps find them.
//
// Tiling: one invocation for two columns of one row, of the keys or of the values; widths are even.
// Of a span longer than the ring only the last `ring` positions are written: two rows must not write
// one place.
struct Params {
    key_pairs: u32,     // KV heads * key width / 2
    value_pairs: u32,
    k_pitch: u32,
    k_offset: u32,
    v_pitch: u32,
    v_offset: u32,
    pinned: u32,
    ring: u32,          // rows of a slot's ring; 0: pages
    pages_per_slot: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> pages: array<u32>;              // [slots, pages_per_slot]
@group(0) @binding(5) var<storage, read> k: array<f32>;                  // [rows, k_pitch]
@group(0) @binding(6) var<storage, read> v: array<f32>;                  // [rows, v_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / (params.key_pairs + params.value_pairs);
    let pair = index % (params.key_pairs + params.value_pairs);
    if row >= row_count() { return; }
    let entry = row_at(row);
    let span = span_at(entry.w);
    if span.w == 0u { return; }     // of a finished slot
    let last = span.z + span.w - 1u;
    if params.ring > 0u && entry.z >= params.pinned && last - entry.z >= params.ring { return; }
    let pool_row = kv_row(entry.y, entry.z);
    if pair < params.key_pairs {
        let at = row * params.k_pitch + params.k_offset + 2u * pair;
        store_keys(pool_row * params.key_pairs + pair, vec2(k[at], k[at + 1u]));
    } else {
        let value_pair = pair - params.key_pairs;
        let at = row * params.v_pitch + params.v_offset + 2u * value_pair;
        store_values(pool_row * params.value_pairs + value_pair, vec2(v[at], v[at + 1u]));
    }
}
