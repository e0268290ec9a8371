// Keys or values stored as f16, a pair of columns to a u32.
@group(0) @binding(4) var<storage, read_write> pool: array<u32>;         // [pool rows, width / 2]

fn store_pair(pair: u32, value: vec2<f32>) { pool[pair] = pack2x16float(value); }
