// A kernel by single numbers, wherever they lie.
alias Number = f32;
const NUMBERS = 1u;
