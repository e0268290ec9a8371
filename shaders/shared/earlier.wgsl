// Columns before a row that the kernels of decode keep in registers: d_conv - 1 of them.
const MOST_BEFORE = 7u;
