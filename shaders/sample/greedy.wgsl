// sample, greedy: the id of the largest logit, the lowest id among equals.
//
// Tiling: one workgroup an output row; lanes stride over the vocabulary, then a tree.
// The id goes to the host (`sampled`) and stays in the row's slot, where the next step finds it.
struct Params {
    vocabulary: u32,
    pitch: u32,
}
const LANES = 256u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;             // [outputs, pitch]
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;      // [outputs]
@group(0) @binding(4) var<storage, read_write> last_token: array<u32>;   // [slots + 1]

var<workgroup> best_value: array<f32, LANES>;
var<workgroup> best_id: array<u32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let output = workgroup.x;
    var value = -3.4e38;
    var id = 0xffffffffu;
    for (var i = lane; i < params.vocabulary; i += LANES) {
        let logit = logits[output * params.pitch + i];
        if logit > value || id == 0xffffffffu { value = logit; id = i; }
    }
    best_value[lane] = value;
    best_id[lane] = id;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = best_value[lane + half];
            let other_id = best_id[lane + half];
            if other_id != 0xffffffffu && (other > best_value[lane] || (other == best_value[lane] && other_id < best_id[lane])) {
                best_value[lane] = other;
                best_id[lane] = other_id;
            }
        }
    }
    if lane == 0u && output < output_count() {
        sampled[output] = best_id[0];
        last_token[row_at(output_row(output)).y] = best_id[0];
    }
}
