// What the kernels of ssd_columns hand on for each chunk, in `steps`: of every head the sums A_l, the steps D_l and the
// factors exp(A_last - A_l) D_l of CHUNK_ROWS rows each; then of every group the products c_l . b_s, [l, s].
const STEPS_OF_HEAD = 3u * CHUNK_ROWS;
const PRODUCTS_OF_GROUP = CHUNK_ROWS * CHUNK_ROWS;

fn steps_of(which: u32, head: u32) -> u32 {
    return which * (params.heads * STEPS_OF_HEAD + params.groups * PRODUCTS_OF_GROUP) + head * STEPS_OF_HEAD;
}
fn products_of(which: u32, group: u32) -> u32 { return steps_of(which, params.heads) + group * PRODUCTS_OF_GROUP; }
