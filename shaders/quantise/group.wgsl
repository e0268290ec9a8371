// A group of 32 numbers: four at a time, as sums are taken in eight parts, two words of four.
const GROUP = 32u;
const WORDS = GROUP / 4u;
var<private> x: array<vec4<f32>, WORDS>;
var<private> count: u32;                // how many of them the row has
var<private> q: array<vec4<f32>, WORDS>; // codes, as numbers

// What codes are multiplied with, and what is added, as f16.
struct Fit { scale: u32, minimum: u32 }

// What is beyond the row must not pull at a fit.
fn counts(word: u32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), vec4(4u * word) + vec4(0u, 1u, 2u, 3u) < vec4(count));
}

// The nearest f16 of a number that has one; a tie goes to the even neighbour.
fn to_half(number: f32) -> u32 {
    let bits = bitcast<u32>(number);
    let magnitude = bits & 0x7fffffffu;
    var half: u32;
    if magnitude < 0x38800000u {
        half = u32(round(abs(number) * 16777216.0));    // below 2^-14 it counts in steps of 2^-24
    } else {
        half = (magnitude + 0xfffu + ((magnitude >> 13u) & 1u) - 0x38000000u) >> 13u;
    }
    return ((bits >> 16u) & 0x8000u) | half;
}

fn from_half(half: u32) -> f32 {
    let magnitude = half & 0x7fffu;
    var number = f32(magnitude) * 0.000000059604644775390625;
    if magnitude >= 0x400u { number = bitcast<f32>((magnitude << 13u) + 0x38000000u); }
    return select(number, -number, (half & 0x8000u) != 0u);
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { return 0.0; }
    return 1.0 / scale;
}

// The codes of a word that are nearest to (x - minimum) / scale.
fn codes_of(word: u32, inverse_scale: f32, minimum: f32, low: f32, high: f32) -> vec4<f32> {
    return round(clamp((x[word] - minimum) * inverse_scale, vec4(low), vec4(high)));
}

fn take_codes(scale: f32, minimum: f32, low: f32, high: f32) {
    let inverse_scale = inverse(scale);
    for (var word = 0u; word < WORDS; word++) { q[word] = codes_of(word, inverse_scale, minimum, low, high); }
}

// The sum of a total that was taken in eight parts.
fn whole(low: vec4<f32>, high: vec4<f32>) -> f32 {
    return low.x + low.y + low.z + low.w + high.x + high.y + high.z + high.w;
}

// The squared error that codes leave.
fn error(scale: f32, minimum: f32) -> f32 {
    var parts: array<vec4<f32>, 2>;
    for (var word = 0u; word < WORDS; word++) {
        let off = scale * q[word] + minimum - x[word];
        parts[word % 2u] += counts(word) * off * off;
    }
    return whole(parts[0], parts[1]);
}

fn largest() -> f32 {
    var most = vec4(0.0);
    for (var word = 0u; word < WORDS; word++) { most = max(most, abs(x[word])); }
    return max(max(most.x, most.y), max(most.z, most.w));
}

// Codes of four bits, eight to a word of the record; beyond the row 0. Words beyond it belong to the scales.
fn store_nibbles(at: u32, row: u32, end: u32, zero: f32) {
    for (var i = 0u; i < 4u; i++) {
        let word = at + 4u * i + row;
        if word >= end { break; }
        let low = vec4<u32>((q[2u * i] + zero) * counts(2u * i)) << vec4(0u, 4u, 8u, 12u);
        let high = vec4<u32>((q[2u * i + 1u] + zero) * counts(2u * i + 1u)) << vec4(16u, 20u, 24u, 28u);
        let both = low | high;
        weight[word] = both.x | both.y | both.z | both.w;
    }
}
