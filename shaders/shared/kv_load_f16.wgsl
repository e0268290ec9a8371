// Keys and values stored as f16, two to a u32: [pool rows, KV heads * width / 2].
@group(0) @binding(6) var<storage, read> key_pool: array<u32>;
@group(0) @binding(7) var<storage, read> value_pool: array<u32>;

fn load_key(index: u32) -> f32 { return unpack2x16float(key_pool[index / 2u])[index % 2u]; }
fn load_value(index: u32) -> f32 { return unpack2x16float(value_pool[index / 2u])[index % 2u]; }
