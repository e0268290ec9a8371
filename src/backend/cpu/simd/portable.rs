//! Eight numbers in an array: what the compiler makes of it is up to the target.

use half::{bf16, f16};

use super::{LANES, Lanes, Number};

/// Eight f32.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn load_f16(from: &[f16; LANES]) -> Self {
        Self(from.map(Number::widen))
    }

    #[inline(always)]
    fn load_bf16(from: &[bf16; LANES]) -> Self {
        Self(from.map(Number::widen))
    }

    #[inline(always)]
    fn load_i8(from: &[u8; LANES]) -> Self {
        Self(from.map(|byte| f32::from(byte as i8)))
    }

    #[inline(always)]
    fn load_e4m3(from: &[u8; LANES]) -> Self {
        // Bits of the magnitude at those of an f32 of 120 more in its exponent; numbers without an exponent have one that is
        // not theirs, 2^-7, and half their mantissa.
        Self(from.map(|byte| {
            let magnitude = f32::from_bits((u32::from(byte & 0x7f) + (120 << 3)) << 20);
            let magnitude = if byte & 0x78 == 0 { 2.0 * magnitude - 1.0 / 64.0 } else { magnitude };
            f32::from_bits(magnitude.to_bits() | u32::from(byte & 0x80) << 24)
        }))
    }

    #[inline(always)]
    fn load_u4(from: &[u8; LANES / 2]) -> Self {
        let word = u32::from_le_bytes(*from);
        Self(std::array::from_fn(|i| ((word >> (4 * i)) & 15) as f32))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.mul(b).add(c)
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        self.zip(b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|n| f32::from_bits((n.to_bits() << 23).wrapping_add(127 << 23))))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}
