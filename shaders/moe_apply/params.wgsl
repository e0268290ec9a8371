// What the kernels of moe_apply share. A *pair* is a row and one of the experts that it chose: row * top +
// place. `hidden` holds what `up` gives for each pair as it is; the function, and the product of the two halves
// where there are two, are applied on the way into `down`, because a half may lie in another segment.
struct Params {
    experts: u32,
    top_k: u32,         // experts a row
    width: u32,         // rows of the weight an expert has
    chunks: u32,        // of eight inputs
    columns: u32,       // inputs
    first: u32,         // row of the weight that the segment begins with
    rows: u32,          // rows of the segment
    x_pitch: u32,
    routes_pitch: u32,
    hidden_pitch: u32,  // of a pair
    sums_pitch: u32,    // of a pair
    out_pitch: u32,
    function: u32,
    gated: u32,         // 1: the second half of `hidden` is multiplied with
    added: u32,         // 1: earlier segments have left their part in `out`
    outputs: u32,       // 1: the rows are outputs
    pairs_at: u32,      // in `lists`
}
@group(0) @binding(0) var<uniform> params: Params;
