// Keys by words of four columns and values by columns, stored as f16, two to a u32: [pool rows, KV heads * width / 2].
@group(0) @binding(6) var<storage, read> key_pool: array<vec2<u32>>;
@group(0) @binding(7) var<storage, read> value_pool: array<u32>;

fn load_key_word(word: u32) -> vec4<f32> {
    let packed = key_pool[word];
    return vec4(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
fn load_value(index: u32) -> f32 { return unpack2x16float(value_pool[index / 2u])[index % 2u]; }
