// Eight consecutive columns: a *chunk* of a row.
struct Eight { low: vec4<f32>, high: vec4<f32> }

fn dot8(a: Eight, b: Eight) -> f32 { return dot(a.low, b.low) + dot(a.high, b.high); }
