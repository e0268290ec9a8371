// gated_delta in chunks, 2 of 3: hands the state from chunk to chunk. With T of the kernel before, and S the
// state that a chunk begins with,
//   E = T (V - diag(exp(G)) K S),   S <- exp(G_last) S + K^T diag(exp(G_last - G)) E.
// E, the chunk's errors, goes where its results will be; the next kernel takes it from there. S goes into the
// scratch, chunk by chunk, and after the span's last chunk into its slot.
//
// Tiling: one workgroup for 16 value columns of one head; columns of the state do not look at one another. It
// walks the chunks in order, with keys and state in tiles of 16 keys in workgroup memory. A lane owns of its
// column every sixteenth number of the state, so that none is ever read by another lane than wrote it.
// Barriers: two a tile, twice a chunk. Limits: 12 KiB of workgroup memory; any width of keys and values.
// Source: Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464, section 3.3.
const COLUMNS = 16u;
const TILE = 16u;
const LANES = COLUMNS * TILE;
@group(0) @binding(2) var<storage, read> k: array<f32>;                  // [rows, k_pitch], normed
@group(0) @binding(3) var<storage, read> v: array<f32>;                  // [rows, v_pitch]
@group(0) @binding(4) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;        // [slots + 1, heads, keys, values]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

var<workgroup> keys: array<f32, CHUNK_ROWS * TILE>;
var<workgroup> states: array<f32, TILE * COLUMNS>;
var<workgroup> inverse: array<f32, CHUNK_ROWS * CHUNK_ROWS>;
var<workgroup> missing: array<f32, CHUNK_ROWS * COLUMNS>;   // V - diag(exp(G)) K S
var<workgroup> errors: array<f32, CHUNK_ROWS * COLUMNS>;    // diag(exp(G_last - G)) E

// Keys `base ..` of all rows of the chunk, 0 where there are none.
fn load_keys(lane: u32, head: u32, chunk: vec4<u32>, base: u32) {
    for (var i = lane; i < CHUNK_ROWS * TILE; i += LANES) {
        let row = i / TILE;
        let key = base + i % TILE;
        var value = 0.0;
        if row < chunk.y && key < params.keys {
            value = k[(chunk.x + row) * params.k_pitch + params.k_offset + key_column(head) + key];
        }
        keys[i] = value;
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wrapped(workgroup, workgroups);
    let blocks = (params.values + COLUMNS - 1u) / COLUMNS;
    let head = index / blocks;
    if head >= params.heads { return; }
    let here = lane % COLUMNS;
    let part = lane / COLUMNS;
    let column = index % blocks * COLUMNS + here;
    let used = column < params.values;
    let head_states = params.keys * params.values;
    for (var which = 0u; which < long_chunk_count(); which++) {
        let chunk = chunk_at(which);
        let span = span_at(chunk.z);
        load_gates(lane, head, chunk);
        let at = (which * params.heads + head) * head_states + column;
        let slot = (span.x * params.heads + head) * head_states + column;
        let inverse_at = params.inverses_at + (which * params.heads + head) * CHUNK_ROWS * CHUNK_ROWS;
        for (var i = lane; i < CHUNK_ROWS * CHUNK_ROWS; i += LANES) { inverse[i] = scratch[inverse_at + i]; }

        // K S of this lane's two rows.
        var read = vec2(0.0);
        for (var base = 0u; base < params.keys; base += TILE) {
            load_keys(lane, head, chunk, base);
            let key = base + part;
            var s = 0.0;
            if used && key < params.keys {
                if chunk.x == span.y { scratch[at + key * params.values] = state[slot + key * params.values]; }
                s = scratch[at + key * params.values];
            }
            states[part * COLUMNS + here] = s;
            workgroupBarrier();
            for (var i = 0u; i < TILE; i++) {
                read += states[i * COLUMNS + here] * vec2(keys[part * TILE + i], keys[(part + 16u) * TILE + i]);
            }
            workgroupBarrier();
        }
        for (var n = 0u; n < 2u; n++) {
            let row = part + 16u * n;
            var value = 0.0;
            if used && row < chunk.y {
                let wanted = v[(chunk.x + row) * params.v_pitch + params.v_offset + head * params.values + column];
                value = wanted - exp(sums[row]) * read[n];
            }
            missing[row * COLUMNS + here] = value;
        }
        workgroupBarrier();
        for (var n = 0u; n < 2u; n++) {
            let row = part + 16u * n;
            var value = 0.0;
            for (var i = 0u; i <= row; i++) { value += inverse[row * CHUNK_ROWS + i] * missing[i * COLUMNS + here]; }
            if used && row < chunk.y {
                out[(chunk.x + row) * params.out_pitch + head * params.values + column] = value;
            }
            errors[row * COLUMNS + here] = value * exp(sums[CHUNK_ROWS - 1u] - sums[row]);
        }
        workgroupBarrier();
        let decay = exp(sums[CHUNK_ROWS - 1u]);
        for (var base = 0u; base < params.keys; base += TILE) {
            load_keys(lane, head, chunk, base);
            workgroupBarrier();
            let key = base + part;
            if used && key < params.keys {
                var s = decay * scratch[at + key * params.values];
                for (var i = 0u; i < CHUNK_ROWS; i++) { s += keys[i * TILE + part] * errors[i * COLUMNS + here]; }
                if chunk.w == 0u {
                    state[slot + key * params.values] = s;
                } else {
                    scratch[at + params.heads * head_states + key * params.values] = s;
                }
            }
            workgroupBarrier();
        }
    }
}
