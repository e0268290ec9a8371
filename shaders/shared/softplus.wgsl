// log(1 + exp(x)), linear above 20 as the reference has it. For very negative x, exp(x) itself:
// 1 + exp(x) rounds it away.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { return x; }
    let e = exp(x);
    if e < 0.0009765625 { return e * (1.0 - 0.5 * e); }
    return log(1.0 + e);
}

// x within limits; NaN stays NaN, which `clamp` does not promise.
fn limited(x: f32, low: f32, high: f32) -> f32 { return select(select(x, high, x > high), low, x < low); }
