// q4m: the range of the numbers, or the best of those tried, each fitted twice by least squares.
const GROUP_WORDS = 4u; // of the codes of a row's group
const TRIED = 12u;

fn fit_group() -> Fit {
    var least = x[0];
    var most = x[0];
    for (var word = 1u; word < WORDS; word++) {
        least = min(least, x[word]);
        most = max(most, x[word]);
    }
    let low = min(min(least.x, least.y), min(least.z, least.w));
    let high = max(max(most.x, most.y), max(most.z, most.w));
    var best = Fit(to_half((high - low) / 15.0), to_half(low));
    if params.mse_search == 1u { best = search(low, high, best); }
    take_codes(from_half(best.scale), from_half(best.minimum), 0.0, 15.0);
    return best;
}

fn search(low: f32, high: f32, plain: Fit) -> Fit {
    var best = plain;
    take_codes(from_half(plain.scale), from_half(plain.minimum), 0.0, 15.0);
    var best_error = error(from_half(plain.scale), from_half(plain.minimum));
    let n = f32(count);
    for (var step = 0u; step < TRIED; step++) {
        let cut = 0.5 * (high - low) * 0.25 * f32(step) / f32(TRIED);
        take_codes((high - low - 2.0 * cut) / 15.0, low + cut, 0.0, 15.0);
        // The codes that suit what was fitted may differ.
        for (var again = 0u; again < 2u; again++) {
            let sums = code_sums();
            let determinant = n * sums.y - sums.x * sums.x;
            if determinant <= 0.0 { break; }
            let scale = to_half((n * sums.w - sums.x * sums.z) / determinant);
            let minimum = to_half((sums.y * sums.z - sums.x * sums.w) / determinant);
            take_codes(from_half(scale), from_half(minimum), 0.0, 15.0);
            let left = error(from_half(scale), from_half(minimum));
            if left < best_error {
                best_error = left;
                best = Fit(scale, minimum);
            }
        }
    }
    return best;
}

// Sums over q, q q, x and x q.
fn code_sums() -> vec4<f32> {
    var parts: array<array<vec4<f32>, 2>, 4>;
    for (var word = 0u; word < WORDS; word++) {
        let counted = counts(word);
        parts[0][word % 2u] += counted * q[word];
        parts[1][word % 2u] += counted * q[word] * q[word];
        parts[2][word % 2u] += counted * x[word];
        parts[3][word % 2u] += counted * x[word] * q[word];
    }
    return vec4(
        whole(parts[0][0], parts[0][1]), whole(parts[1][0], parts[1][1]),
        whole(parts[2][0], parts[2][1]), whole(parts[3][0], parts[3][1]),
    );
}

fn store_codes(at: u32, row: u32, end: u32) { store_nibbles(at, row, end, 0.0); }

fn store_scales(at: u32, group: u32, row: u32, fit: Fit) {
    store_half(at + 4u * group, row, fit.scale);
    store_half(at + 4u * group + 2u, row, fit.minimum);
}
