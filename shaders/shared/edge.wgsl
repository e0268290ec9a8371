// A chunk of a row of `columns`, with 0 past the end: what lies there may be anything, even NaN, which a weight
// of 0 does not cancel.
fn within(columns: u32, chunk: u32, value: Eight) -> Eight {
    if 8u * chunk + 8u <= columns { return value; }
    let left = vec4(columns - 8u * chunk);
    return Eight(
        select(vec4(0.0), value.low, vec4(0u, 1u, 2u, 3u) < left),
        select(vec4(0.0), value.high, vec4(4u, 5u, 6u, 7u) < left),
    );
}
