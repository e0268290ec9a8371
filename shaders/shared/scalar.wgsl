// A kernel by single numbers, wherever they lie.
alias Number = f32;
const NUMBERS = 1u;

// The sum of what it holds.
fn whole(number: Number) -> f32 { return number; }
