// Pointwise functions, numbered as in `Function`.
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }

fn apply(function: u32, x: f32) -> f32 {
    switch function {
        case 1u: { return x * sigmoid(x); }
        case 2u: { let positive = select(x, 0.0, x < 0.0); return positive * positive; }
        case 3u: { return sigmoid(x); }
        default: { return x; }
    }
}
