// A kernel by words of four numbers: widths, pitches and offsets are multiples of four.
alias Number = vec4<f32>;
const NUMBERS = 4u;
