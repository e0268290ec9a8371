// States of a channel that the kernels keep in registers.
const MOST_STATES = 16u;
