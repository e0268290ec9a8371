// Pools of keys and values stored as f16, two to a u32, written a pair of columns at a time.
@group(0) @binding(3) var<storage, read_write> key_pool: array<u32>;     // [pool rows, KV heads * width / 2]
@group(0) @binding(4) var<storage, read_write> value_pool: array<u32>;

fn store_keys(pair: u32, value: vec2<f32>) { key_pool[pair] = pack2x16float(value); }
fn store_values(pair: u32, value: vec2<f32>) { value_pool[pair] = pack2x16float(value); }
