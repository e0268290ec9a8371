// sample, before the step: takes the rows out of spans that would feed a finished slot its own token.
// Kernels that renew what a slot remembers go over the rows of its span, so that nothing changes there.
//
// Tiling: one invocation a span. It is the only kernel that writes the step table.
struct Params {
    spans_at: u32,      // in 16-byte words
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> table: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> samplers: array<u32>;           // [slots + 1, SAMPLER_WORDS]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= table[0][COUNT_SPANS] { return; }
    let span = table[params.spans_at + id.x];
    let own_token = table[TABLE_HEADER / 4u + span.y].x == TOKEN_OF_SLOT;
    if own_token && samplers[span.x * SAMPLER_WORDS + FINISHED] != 0u { table[params.spans_at + id.x].w = 0u; }
}
