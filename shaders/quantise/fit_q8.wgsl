// q8: always rounded plainly.
const GROUP_WORDS = 8u; // of the codes of a row's group

fn fit_group() -> Fit {
    let scale = to_half(largest() / 127.0);
    take_codes(from_half(scale), 0.0, -127.0, 127.0);
    return Fit(scale, 0u);
}

fn store_codes(at: u32, row: u32, end: u32) {
    for (var i = 0u; i < WORDS; i++) {
        let word = at + 4u * i + row;
        if word >= end { break; }
        let bytes = (vec4<u32>(vec4<i32>(q[i] * counts(i))) & vec4(255u)) << vec4(0u, 8u, 16u, 24u);
        weight[word] = bytes.x | bytes.y | bytes.z | bytes.w;
    }
}

fn store_scales(at: u32, group: u32, row: u32, fit: Fit) { store_half(at + 2u * group, row, fit.scale); }
