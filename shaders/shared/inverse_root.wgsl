// 1 / sqrt(x) for a sum of squares. One beyond f32 would make the factor 0 and all that it scales a plausible 0:
// the factor is then infinite, so that the outputs are not finite and are refused.
fn inverse_root(x: f32) -> f32 { return select(x, inverseSqrt(x), x <= 3.4e38); }
