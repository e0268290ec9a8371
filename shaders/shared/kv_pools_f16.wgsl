// Pools of keys and values stored as f16, two to a u32, written a pair of columns at a time.
@group(0) @binding(3) var<storage, read_write> key_pool: array<u32>;     // [pool rows, KV heads * width / 2]
@group(0) @binding(4) var<storage, read_write> value_pool: array<u32>;

const LARGEST = 65504.0;
const TOO_LARGE = 0x477ff000u;  // the bits of 65520, which no f16 is nearest to
const NAN_PAIR = vec2(0x7e00u, 0x7e000000u);

// Two numbers as f16; NaN where f16 does not hold one, which WGSL leaves open: see `kv_f16` of src/state/mod.rs.
fn halves(value: vec2<f32>) -> u32 {
    let packed = pack2x16float(clamp(value, vec2(-LARGEST), vec2(LARGEST)));
    let lost = (bitcast<vec2<u32>>(value) & vec2(0x7fffffffu)) >= vec2(TOO_LARGE);
    let kept = select(vec2(packed) & vec2(0xffffu, 0xffff0000u), NAN_PAIR, lost);
    return kept.x | kept.y;
}

fn store_keys(pair: u32, value: vec2<f32>) { key_pool[pair] = halves(value); }
fn store_values(pair: u32, value: vec2<f32>) { value_pool[pair] = halves(value); }
