// log(1 + exp(x)), linear above 20 as the reference has it. For very negative x, exp(x) itself:
// 1 + exp(x) rounds it away.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { return x; }
    let e = exp(x);
    if e < 0.0009765625 { return e * (1.0 - 0.5 * e); }
    return log(1.0 + e);
}
