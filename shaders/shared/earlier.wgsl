// Columns before a row that the kernels of decode keep in registers: a convolution's taps but one.
const MOST_BEFORE = 7u;
