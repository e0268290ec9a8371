// kv_append: puts a span's keys (or values: one dispatch each) where later steps find them.
//
// Tiling: one invocation for two columns of one row; the width is even. Of a span longer than the ring
// only the last `ring` positions are written: two rows must not write one place.
struct Params {
    pairs: u32,         // half the width: KV heads * width / 2
    x_pitch: u32,
    x_offset: u32,
    pinned: u32,
    ring: u32,          // rows of a slot's ring; 0: pages
    pages_per_slot: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> pages: array<u32>;              // [slots, pages_per_slot]
@group(0) @binding(3) var<storage, read> x: array<f32>;                  // [rows, x_pitch]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups) * 64u + lane;
    let row = index / params.pairs;
    let pair = index % params.pairs;
    if row >= row_count() { return; }
    let entry = row_at(row);
    let span = span_at(entry.w);
    let last = span.z + span.w - 1u;
    if params.ring > 0u && entry.z >= params.pinned && last - entry.z >= params.ring { return; }
    let begin = row * params.x_pitch + params.x_offset + 2u * pair;
    store_pair(kv_row(entry.y, entry.z) * params.pairs + pair, vec2(x[begin], x[begin + 1u]));
}
