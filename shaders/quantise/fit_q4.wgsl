// q4: the scale that just holds the largest number, or the best of those tried, of both signs.
const GROUP_WORDS = 4u; // of the codes of a row's group
const TRIED = 12u;

fn fit_group() -> Fit {
    let most = largest();
    let plain = to_half(most / 7.0);
    take_codes(from_half(plain), 0.0, -8.0, 7.0);
    if params.mse_search == 0u { return Fit(plain, 0u); }
    let plain_error = error(from_half(plain), 0.0);
    let searched = to_half(search(most));
    take_codes(from_half(searched), 0.0, -8.0, 7.0);
    if error(from_half(searched), 0.0) < plain_error { return Fit(searched, 0u); }
    take_codes(from_half(plain), 0.0, -8.0, 7.0);
    return Fit(plain, 0u);
}

fn search(most: f32) -> f32 {
    var best_gain = 0.0;
    var best = 0.0;
    for (var step = 0u; step < 2u * TRIED; step++) {
        let code = 6.5 + 0.4 * f32(step / 2u);
        let scale = select(most, -most, step % 2u == 1u) / code;
        let inverse_scale = inverse(scale);
        var xq: array<vec4<f32>, 2>;
        var qq: array<vec4<f32>, 2>;
        for (var word = 0u; word < WORDS; word++) {
            let codes = codes_of(word, inverse_scale, 0.0, -8.0, 7.0);
            let counted = counts(word) * codes;
            xq[word % 2u] += counted * x[word];
            qq[word % 2u] += counted * codes;
        }
        let product = whole(xq[0], xq[1]);
        let square = whole(qq[0], qq[1]);
        if square > 0.0 && product * product / square > best_gain {
            best_gain = product * product / square;
            best = product / square;
        }
    }
    return best;
}

fn store_codes(at: u32, row: u32, end: u32) { store_nibbles(at, row, end, 8.0); }

fn store_scales(at: u32, group: u32, row: u32, fit: Fit) { store_half(at + 2u * group, row, fit.scale); }
