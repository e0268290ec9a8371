// Pointwise functions by their numbers, of four columns at a time.
fn sigmoid_word(x: vec4<f32>) -> vec4<f32> { return vec4(1.0) / (vec4(1.0) + exp(-x)); }

fn apply_word(function: u32, x: vec4<f32>) -> vec4<f32> {
    switch function {
        case FUNCTION_SILU: { return x * sigmoid_word(x); }
        case FUNCTION_SQUARED_RELU: {
            let positive = select(x, vec4(0.0), x < vec4(0.0));
            return positive * positive;
        }
        case FUNCTION_SIGMOID: { return sigmoid_word(x); }
        default: { return x; }
    }
}
