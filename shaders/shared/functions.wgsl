// Pointwise functions by their numbers.
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }

fn apply(function: u32, x: f32) -> f32 {
    switch function {
        case FUNCTION_SILU: { return x * sigmoid(x); }
        case FUNCTION_SQUARED_RELU: { let positive = select(x, 0.0, x < 0.0); return positive * positive; }
        case FUNCTION_SIGMOID: { return sigmoid(x); }
        default: { return x; }
    }
}
