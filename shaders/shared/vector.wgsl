// A kernel by words of four numbers: widths, pitches and offsets are multiples of four.
alias Number = vec4<f32>;
const NUMBERS = 4u;

// The sum of what it holds.
fn whole(number: Number) -> f32 { return number.x + number.y + number.z + number.w; }
