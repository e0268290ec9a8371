//! FP8 E4M3: sign, 4 bits of exponent with bias 7, 3 of mantissa. There are no infinities, and one NaN of each sign
//! (Micikevicius et al., *FP8 Formats for Deep Learning*, 2022).

/// Divisor of the products of scales and codes.
pub const FP8_DIVISOR: f32 = 4096.0;

/// Largest number.
const LARGEST: f32 = 448.0;

/// The number of a code.
#[inline(always)]
pub fn e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(bits >> 3 & 15), f32::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * (1.0 / 512.0),
        _ => (1.0 + mantissa / 8.0) * f32::from_bits((exponent + 120) << 23),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The code of the number nearest to `x`, of two the even one; beyond the largest that.
pub(crate) fn nearest_e4m3(x: f32) -> u8 {
    let sign = u8::from(x.is_sign_negative()) << 7;
    let magnitude = x.abs().min(LARGEST);
    // Steps of the numbers around it: an eighth of their power of two, of the smallest 2^-9.
    let exponent = (magnitude.to_bits() >> 23).max(121) as i32 - 127;
    let step = f32::from_bits((exponent - 3 + 127) as u32 * (1 << 23));
    // Codes follow one another as numbers do.
    let steps = (magnitude / step).round_ties_even() as u8;
    let code = ((exponent + 6) as u8 * 8) + steps;
    sign | code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_paper() {
        for (bits, wanted) in [(0x7e, 448.0), (0x38, 1.0), (0x08, 2f32.powi(-6)), (0x01, 2f32.powi(-9)), (0, 0.0)] {
            assert_eq!(e4m3(bits), wanted);
            assert_eq!(e4m3(bits | 0x80), -wanted);
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        assert!((0..0x7e).all(|bits| e4m3(bits) < e4m3(bits + 1)), "larger codes are larger numbers");
    }

    #[test]
    fn the_nearest_code_is_taken_and_of_two_the_even_one() {
        for bits in (0..=0xff_u8).filter(|bits| bits & 0x7f != 0x7f) {
            assert_eq!(nearest_e4m3(e4m3(bits)), bits, "{bits:#x}");
        }
        for bits in 0..0x7e_u8 {
            let (low, high) = (e4m3(bits), e4m3(bits + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(nearest_e4m3(middle), if bits % 2 == 0 { bits } else { bits + 1 }, "{bits:#x}");
            assert_eq!(nearest_e4m3(middle * 0.999), bits, "{bits:#x}");
            assert_eq!(nearest_e4m3(middle * 1.001), bits + 1, "{bits:#x}");
        }
        assert_eq!((nearest_e4m3(1e9), nearest_e4m3(-1e9)), (0x7e, 0xfe));
    }
}
