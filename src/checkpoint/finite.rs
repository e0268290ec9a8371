//! The search for weights that are NaN or infinite.
//!
//! PyTorch and `transformers` load such a checkpoint without an error, and the model then makes no sense. Here it is
//! refused by the tensor's name, in every storage format and on every device: every block of rows passes through this
//! check first.

use half::{bf16, f16};

use super::{Checkpoint, CheckpointError, Dtype, TensorInfo};

/// Numbers that are looked at without a branch, so that the compiler takes several at a time.
const CHUNK: usize = 1024;

impl Checkpoint {
    /// Refuses `bytes` of a tensor that hold a number that is not finite; `first` numbers of the tensor lie before them.
    /// Of quantised tensors only the scales can be so, which [`Checkpoint::rows`] looks at.
    pub(super) fn check_finite(
        &self,
        tensor: &str,
        info: &TensorInfo,
        first: usize,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        match find(&info.dtype, bytes) {
            None => Ok(()),
            Some((at, value)) => Err(CheckpointError::NotFinite {
                tensor: tensor.to_owned(),
                file: self.describe(&info.file),
                index: unravel(first + at, &info.shape),
                value,
            }),
        }
    }
}

/// The first number that is not finite, and where it is. Exponents of ones alone mean infinity or NaN.
fn find(dtype: &Dtype, bytes: &[u8]) -> Option<(usize, f32)> {
    match dtype {
        Dtype::F32 => search(bytes, |b| u32::from_le_bytes(b) << 1 >= 0xff00_0000, f32::from_le_bytes),
        Dtype::F16 => search(bytes, |b| u16::from_le_bytes(b) << 1 >= 0xf800, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::Bf16 => search(bytes, |b| u16::from_le_bytes(b) << 1 >= 0xff00, |b| bf16::from_le_bytes(b).to_f32()),
        // It has no infinities.
        Dtype::F8E4m3 => search(bytes, |[b]: [u8; 1]| b << 1 == 0xfe, |_| f32::NAN),
        Dtype::Quantised(_) | Dtype::Scaled(_) | Dtype::Merged(_) | Dtype::Other(_) => None,
    }
}

fn search<const N: usize>(
    bytes: &[u8],
    is_bad: impl Fn([u8; N]) -> bool,
    number: impl Fn([u8; N]) -> f32,
) -> Option<(usize, f32)> {
    let (numbers, _) = bytes.as_chunks::<N>();
    let chunk = numbers.chunks(CHUNK).position(|chunk| chunk.iter().fold(false, |any, &b| any | is_bad(b)))?;
    let at = chunk * CHUNK + numbers[chunk * CHUNK..].iter().position(|&b| is_bad(b))?;
    Some((at, number(numbers[at])))
}

/// The index in every dimension of the number at a place of a row-major tensor.
fn unravel(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let at = place % size.max(1);
            place /= size.max(1);
            at
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of a dtype.
    fn all(dtype: &Dtype) -> Vec<(Vec<u8>, f32)> {
        let halves = (0..=u16::MAX).map(u16::to_le_bytes);
        match dtype {
            Dtype::F16 => halves.map(|b| (b.to_vec(), f16::from_le_bytes(b).to_f32())).collect(),
            Dtype::Bf16 => halves.map(|b| (b.to_vec(), bf16::from_le_bytes(b).to_f32())).collect(),
            Dtype::F8E4m3 => (0..=u8::MAX).map(|b| (vec![b], if b & 127 == 127 { f32::NAN } else { 0.0 })).collect(),
            // All exponents and signs, and mantissas at both ends.
            _ => halves
                .flat_map(|[low, high]| [[0, 0, low, high], [1, 0, low, high], [255, 255, low, high]])
                .map(|b| (b.to_vec(), f32::from_le_bytes(b)))
                .collect(),
        }
    }

    #[test]
    fn every_pattern_is_told_apart() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F8E4m3] {
            let (mut finite, mut others) = (vec![], 0);
            for (bytes, value) in all(&dtype) {
                let found = find(&dtype, &bytes);
                assert_eq!(found.is_none(), value.is_finite(), "{dtype} {bytes:?}");
                if value.is_finite() {
                    finite.extend(&bytes);
                } else {
                    others += 1;
                    assert!(matches!(found, Some((0, x)) if x == value || x.is_nan() && value.is_nan()));
                }
            }
            assert!(others > 1 && find(&dtype, &finite).is_none(), "{dtype}");
        }
    }

    #[test]
    fn the_first_one_is_found_wherever_it_is() {
        for at in [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5] {
            let mut numbers = vec![1.0_f32; 3 * CHUNK + 6];
            numbers[at] = f32::NEG_INFINITY;
            if let Some(later) = numbers.get_mut(at + 3) {
                *later = f32::NAN;
            }
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(find(&Dtype::F32, &bytes), Some((at, f32::NEG_INFINITY)));
        }
        assert_eq!(unravel(17, &[2, 3, 4]), [1, 1, 1]);
        assert_eq!(unravel(5, &[9]), [5]);
        assert!(unravel(0, &[]).is_empty());
    }
}
