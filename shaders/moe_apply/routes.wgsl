@group(0) @binding(3) var<storage, read> routes: array<f32>;             // [rows, routes_pitch]: ids, then weights

// The expert of a pair. What is none is `experts` or more, and left out.
fn expert_of(row: u32, place: u32) -> u32 { return u32(routes[row * params.routes_pitch + place]); }
fn weight_of(row: u32, place: u32) -> f32 { return routes[row * params.routes_pitch + params.top_k + place]; }
