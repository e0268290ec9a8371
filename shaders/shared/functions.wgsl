// Pointwise functions by their numbers, of one number or of a word of four: scalar.wgsl or vector.wgsl.
fn sigmoid(x: Number) -> Number { return 1.0 / (1.0 + exp(-x)); }

fn apply(function: u32, x: Number) -> Number {
    switch function {
        case FUNCTION_SILU: { return x * sigmoid(x); }
        case FUNCTION_SQUARED_RELU: { let positive = select(x, Number(), x < Number()); return positive * positive; }
        case FUNCTION_SIGMOID: { return sigmoid(x); }
        default: { return x; }
    }
}
