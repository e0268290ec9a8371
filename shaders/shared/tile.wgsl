// The products of TILE_ROWS rows of an input with TILE_OUTS rows of a matrix, by a workgroup of 16 x 16: each
// invocation makes those of 2 rows and 4 outputs, in steps of 32 columns that are staged in workgroup memory as
// f32. In a step a lane brings one word of the input (row lane / STEP, word lane % STEP) and one chunk, two words,
// of the matrix (row lane / 4, chunk lane % 4).
// Barriers: two a step. 12 KiB of workgroup memory.
const STEP = 8u;        // words of four columns
const STEP_CHUNKS = 4u;

var<workgroup> x_tile: array<vec4<f32>, TILE_ROWS * STEP>;
var<workgroup> w_tile: array<vec4<f32>, TILE_OUTS * STEP>;

// Of an invocation: its rows are tile_row and the next, its outputs tile_out and the next three.
struct Products { first: vec4<f32>, second: vec4<f32> }
fn tile_row(lane: u32) -> u32 { return 2u * (lane / 16u); }
fn tile_out(lane: u32) -> u32 { return 4u * (lane % 16u); }

// Adds the products of one step. Must be reached by all lanes.
fn tile_step(lane: u32, x: vec4<f32>, weights: Eight, before: Products) -> Products {
    x_tile[lane] = x;
    w_tile[2u * lane] = weights.low;
    w_tile[2u * lane + 1u] = weights.high;
    workgroupBarrier();
    let x_at = tile_row(lane) * STEP;
    let w_at = tile_out(lane) * STEP;
    var sums = before;
    for (var k = 0u; k < STEP; k++) {
        let a0 = x_tile[x_at + k];
        let a1 = x_tile[x_at + STEP + k];
        let b0 = w_tile[w_at + k];
        let b1 = w_tile[w_at + STEP + k];
        let b2 = w_tile[w_at + 2u * STEP + k];
        let b3 = w_tile[w_at + 3u * STEP + k];
        sums.first += vec4(dot(a0, b0), dot(a0, b1), dot(a0, b2), dot(a0, b3));
        sums.second += vec4(dot(a1, b0), dot(a1, b1), dot(a1, b2), dot(a1, b3));
    }
    workgroupBarrier();
    return sums;
}
