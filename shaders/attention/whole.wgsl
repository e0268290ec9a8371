// A workgroup of attention sees all keys of its queries: it leaves results.
@group(0) @binding(8) var<storage, read_write> out: array<f32>;          // [rows, out_pitch]

fn leave(row: u32, head: u32, slice: u32, column: u32, highest: f32, total: f32, sum: f32) {
    out[row * params.out_pitch + head * params.value_width + column] = sum / total;
}
