// Keys or values stored as f32, a pair of columns at a time.
@group(0) @binding(4) var<storage, read_write> pool: array<f32>;         // [pool rows, width]

fn store_pair(pair: u32, value: vec2<f32>) {
    pool[2u * pair] = value.x;
    pool[2u * pair + 1u] = value.y;
}
