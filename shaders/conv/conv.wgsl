// conv: depthwise causal convolution over a span, the rows before it taken from the state.
//   out[t, c] = function(bias[c] + sum_j kernel[c, j] x[t - (d_conv - 1) + j, c])
//
// Tiling: one invocation for one channel, or a word of four, of eight rows of a chunk, and of more such blocks where
// short chunks are many. It loads the kernel and the inputs before its first row once, into registers; then a row is one
// load of x, and the inputs move on by one place.
// A kernel of fewer taps than four is aligned to the last of them: the taps before it are 0, and so are their inputs,
// whatever the memory holds there, as 0 times NaN is NaN.
// Barriers: none. Limits: d_conv up to 4; longer kernels: long.wgsl. Only reads the state; conv_append renews it
// afterwards, when no row needs the old one any more.
@group(0) @binding(2) var<storage, read> x: array<Number>;               // [rows, x_pitch]
@group(0) @binding(4) var<storage, read> state: array<Number>;           // [slots + 1, d_conv - 1, channels]
@group(0) @binding(5) var<storage, read_write> out: array<Number>;       // [rows, out_pitch]

const MOST_TAPS = 4u;
const ROWS = 8u;                        // of a block
const BLOCKS = CHUNK_ROWS / ROWS;       // of a chunk

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let count = chunk_count() * BLOCKS * params.channels;
    let stride = workgroups.x * workgroups.y * 64u;
    for (var index = wrapped(workgroup, workgroups) * 64u + lane; index < count; index += stride) { convolve(index); }
}

// Column `index` of the blocks. The first ones of all chunks come first: short chunks have no others.
fn convolve(index: u32) {
    let column = index % params.channels;
    let block = index / params.channels;
    let chunk = chunk_at(block % chunk_count());
    let begin = block / chunk_count() * ROWS;
    if begin >= chunk.y { return; }
    let first = chunk.x + begin;
    let span = span_at(chunk.z);
    let bias = bias_of(column);
    let tap_0 = tap_back(column, 0u);
    let tap_1 = tap_back(column, 1u);
    let tap_2 = tap_back(column, 2u);
    let tap_3 = tap_back(column, 3u);
    var input_1 = input_back(span, first, column, 1u);
    var input_2 = input_back(span, first, column, 2u);
    var input_3 = input_back(span, first, column, 3u);
    for (var row = first; row < chunk.x + min(begin + ROWS, chunk.y); row++) {
        let input_0 = x[row * params.x_pitch + params.x_offset + column];
        let sum = bias + tap_3 * input_3 + tap_2 * input_2 + tap_1 * input_1 + tap_0 * input_0;
        out[row * params.out_pitch + column] = apply(params.function, sum);
        input_3 = select(Number(), input_2, params.d_conv > 3u);
        input_2 = select(Number(), input_1, params.d_conv > 2u);
        input_1 = input_0;
    }
}

// The tap `back` rows before the last one.
fn tap_back(column: u32, back: u32) -> Number {
    if back >= params.d_conv { return Number(); }
    return tap_of(column, params.d_conv - 1u - back);
}

// The input that it takes for a row of a span.
fn input_back(span: vec4<u32>, row: u32, column: u32, back: u32) -> Number {
    if back >= params.d_conv { return Number(); }
    if row >= span.y + back { return x[(row - back) * params.x_pitch + params.x_offset + column]; }
    let end = (span.x + 1u) * (params.d_conv - 1u);
    return state[(end + row - span.y - back) * params.channels + column];
}
