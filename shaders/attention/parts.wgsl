// What a slice of the keys gives for a row and a head: the highest score, the sum of the weights exp(score - highest), and
// the weighted sum of the values.
fn part_at(row: u32, head: u32, slice: u32) -> u32 {
    return ((row * params.heads + head) * params.slices + slice) * (2u + params.value_width);
}
