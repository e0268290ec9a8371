// A number of `vectors` for a channel: see taps_vector.wgsl.
fn spaced(at: u32, stride: u32) -> Number { return vectors[at]; }
