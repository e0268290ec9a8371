// A workgroup of attention sees a slice of the keys: it leaves what merge.wgsl makes a result of.
@group(0) @binding(8) var<storage, read_write> parts: array<f32>;        // [rows, heads, slices, 2 + value_width]

fn leave(row: u32, head: u32, slice: u32, column: u32, highest: f32, total: f32, sum: f32) {
    let at = part_at(row, head, slice);
    if column == 0u {
        parts[at] = highest;
        parts[at + 1u] = total;
    }
    parts[at + 2u + column] = sum;
}
