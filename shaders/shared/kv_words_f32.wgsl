// Keys by words of four columns and values by columns, stored as f32: [pool rows, KV heads * width].
@group(0) @binding(6) var<storage, read> key_pool: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> value_pool: array<f32>;

fn load_key_word(word: u32) -> vec4<f32> { return key_pool[word]; }
fn load_value(index: u32) -> f32 { return value_pool[index]; }
