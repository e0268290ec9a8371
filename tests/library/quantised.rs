//! The quantised formats: what rounding loses, what the search wins, and what comes back from bytes.

use crate::support::{bell, squared_error};
use proptest::prelude::*;
use selvedge::formats::{GROUP, Quantised, Rounding, quantise_row};

const FORMATS: [Quantised; 4] = [Quantised::Q8, Quantised::Q4, Quantised::Q4m, Quantised::Fp8];

fn round_trip(numbers: &[f32], format: Quantised, rounding: Rounding) -> Vec<f32> {
    let mut bytes = vec![0xa5; format.row_bytes(numbers.len())];
    assert!(quantise_row(numbers, format, rounding, &mut bytes), "finite numbers");
    let row = format.split(&bytes, numbers.len());
    let mut decoded = vec![0.0; numbers.len()];
    row.decode(&mut decoded);
    for (column, x) in decoded.iter().enumerate() {
        assert_eq!(row.at(column), *x, "{} column {column} by itself", format.name());
    }
    decoded
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Plain rounding is off by half a step, and by what the f16 scale adds to the code.
    #[test]
    fn plain_rounding_is_off_by_half_a_step(
        groups in 0..3_usize, rest in 0..GROUP / 2, magnitude in -10..4_i32,
        seed in any::<u32>(),
    ) {
        let count = groups * GROUP + 2 * rest;
        let numbers: Vec<f32> = bell(count, seed).iter().map(|x| x * 10f32.powi(magnitude) ).collect();
        for format in FORMATS {
            let decoded = round_trip(&numbers, format, Rounding::Absmax);
            for (numbers, decoded) in numbers.chunks(GROUP).zip(decoded.chunks(GROUP)) {
                let most = numbers.iter().fold(0.0_f32, |most, x| x.abs().max(most));
                let spread = numbers.iter().fold(f32::MIN, |m, x| x.max(m)) - numbers.iter().fold(f32::MAX, |m, x| x.min(m));
                let step = match format {
                    Quantised::Q8 => most / 127.0,
                    Quantised::Q4 => most / 7.0,
                    Quantised::Q4m => spread / 15.0,
                    // Three bits behind the first, of the largest numbers.
                    Quantised::Fp8 => most / 14.0,
                };
                // f16 counts in steps of 2^-24 where numbers are tiny.
                let slack = most / 1024.0 + 16.0 * 2f32.powi(-24) * if format == Quantised::Q8 { 8.0 } else { 1.0 };
                for (x, y) in numbers.iter().zip(decoded) {
                    prop_assert!((x - y).abs() <= step / 2.0 + slack, "{}: {x} became {y}, a step is {step}", format.name());
                }
            }
        }
    }

    /// The search never does worse than plain rounding, group by group.
    #[test]
    fn the_search_is_never_worse(count in 1..5 * GROUP / 2, seed in any::<u32>(), outlier in 0.0..40.0_f32) {
        let mut numbers = bell(2 * count, seed);
        numbers[count] *= outlier;
        for format in FORMATS {
            let (plain, searched) =
                (round_trip(&numbers, format, Rounding::Absmax), round_trip(&numbers, format, Rounding::MseSearch));
            for ((x, plain), searched) in numbers.chunks(GROUP).zip(plain.chunks(GROUP)).zip(searched.chunks(GROUP)) {
                let (plain, searched) = (squared_error(x, plain), squared_error(x, searched));
                prop_assert!(searched <= plain * 1.0001, "{}: {searched:e} after {plain:e}", format.name());
            }
        }
    }
}

#[test]
fn the_search_wins_what_it_is_for() {
    let numbers = bell(256 * GROUP, 7);
    for (format, most) in [(Quantised::Q4, 0.80), (Quantised::Q4m, 0.85)] {
        let [plain, searched] =
            [Rounding::Absmax, Rounding::MseSearch].map(|r| squared_error(&numbers, &round_trip(&numbers, format, r)));
        println!("{}: {:.3} of the squared error of absmax rounding", format.name(), searched / plain);
        assert!(searched < most * plain, "{}: {searched:e} of {plain:e}", format.name());
    }
}

#[test]
fn extremes_survive() {
    for format in FORMATS {
        for rounding in [Rounding::Absmax, Rounding::MseSearch] {
            assert_eq!(round_trip(&[0.0; 40], format, rounding), [0.0; 40]);
            let one = round_trip(&[-3.0, 3.0], format, rounding);
            assert!((one[0] + 3.0).abs() < 0.25 && (one[1] - 3.0).abs() < 0.25, "{}: {one:?}", format.name());
            let same = round_trip(&[0.75; 34], format, rounding);
            assert!(same.iter().all(|x| (x - 0.75).abs() < 1e-3), "{}: {same:?}", format.name());
            for bad in [f32::NAN, f32::INFINITY, 1e30] {
                let mut numbers = [0.25; 40];
                numbers[33] = bad;
                let sound = quantise_row(&numbers, format, rounding, &mut vec![0; format.row_bytes(40)]);
                assert!(!sound, "{} takes {bad}", format.name());
            }
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_description() {
    // Two groups, the second of two numbers; scales of 0.5 and 2 in f16, minimums of -1 and 3.
    let halves = [0x00, 0x38, 0x00, 0x40];
    let minimums = [0x00, 0xbc, 0x00, 0x42];
    let decode = |format: Quantised, codes: &[u8], minimums: &[u8]| {
        let bytes = [codes, &halves, minimums].concat();
        assert_eq!(bytes.len(), format.row_bytes(34));
        let mut out = [0.0; 34];
        format.split(&bytes, 34).decode(&mut out);
        (out[0], out[1], out[32], out[33])
    };
    let mut q8 = [0; 34];
    (q8[0], q8[1], q8[32], q8[33]) = (0x80, 3, 0xff, 127);
    assert_eq!(decode(Quantised::Q8, &q8, &[]), (-64.0, 1.5, -2.0, 254.0));
    let mut q4 = [0; 17];
    (q4[0], q4[16]) = (0x9f, 0x08);
    assert_eq!(decode(Quantised::Q4, &q4, &[]), (3.5, 0.5, 0.0, -16.0));
    assert_eq!(decode(Quantised::Q4m, &q4, &minimums), (6.5, 3.5, 19.0, 3.0));
}
