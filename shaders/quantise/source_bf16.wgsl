// Numbers of a block, in bf16, two to a u32.
@group(0) @binding(1) var<storage, read> source: array<u32>;

fn number_at(index: u32) -> f32 {
    return bitcast<f32>((source[index / 2u] >> (16u * (index % 2u))) << 16u);
}
