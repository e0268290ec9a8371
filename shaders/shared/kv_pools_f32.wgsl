// Pools of keys and values stored as f32, written a pair of columns at a time.
@group(0) @binding(3) var<storage, read_write> key_pool: array<f32>;     // [pool rows, KV heads * width]
@group(0) @binding(4) var<storage, read_write> value_pool: array<f32>;

fn store_keys(pair: u32, value: vec2<f32>) {
    key_pool[2u * pair] = value.x;
    key_pool[2u * pair + 1u] = value.y;
}

fn store_values(pair: u32, value: vec2<f32>) {
    value_pool[2u * pair] = value.x;
    value_pool[2u * pair + 1u] = value.y;
}
