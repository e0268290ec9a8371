// Numbers of `vectors` for the four channels of a word, `stride` apart.
fn spaced(at: u32, stride: u32) -> Number {
    return vec4(vectors[at], vectors[at + stride], vectors[at + 2u * stride], vectors[at + 3u * stride]);
}
