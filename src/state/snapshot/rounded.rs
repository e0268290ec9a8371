//! Recurrent states in 8 bits: codes from -127 to 127 and a scale a row of the last axis, `x = code * scale`.
//!
//! A state that was rounded is the same when it is rounded once more. What it costs is measured in `docs/state.md`.

use crate::state::StateTensor;

/// The largest code.
const LARGEST: f32 = 127.0;

fn columns(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1).max(1)
}

/// Codes and scales of a tensor.
pub(super) fn encode(tensor: &StateTensor) -> (Vec<i8>, Vec<f32>) {
    let mut codes = Vec::with_capacity(tensor.data.len());
    let mut scales = vec![];
    for row in tensor.data.chunks(columns(&tensor.shape)) {
        let scale = row.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / LARGEST;
        scales.push(scale);
        // Of a row of zeros, and of one so small that its scale is zero.
        let inverse = if scale > 0.0 { 1.0 / f64::from(scale) } else { 0.0 };
        codes.extend(row.iter().map(|&x| (f64::from(x) * inverse).round() as i8));
    }
    (codes, scales)
}

/// The numbers of codes; `None` where there is not one scale for each row.
pub(super) fn decode(codes: &[u8], scales: &[f32], shape: &[usize]) -> Option<Vec<f32>> {
    let columns = columns(shape);
    if scales.len() != codes.len().div_ceil(columns) {
        return None;
    }
    let rows = codes.chunks(columns).zip(scales);
    Some(rows.flat_map(|(row, scale)| row.iter().map(move |&code| f32::from(code as i8) * scale)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_within_half_a_step_and_changes_nothing_twice() {
        let rows = [vec![0.0; 5], vec![1.0, -0.4, 0.003, 127.0, -3.0], vec![1e-30; 5], vec![1e30; 5]];
        let data: Vec<f32> = rows.concat();
        let tensor = StateTensor { name: "layers.0.ssm".into(), shape: vec![2, 2, 5], positions: vec![], data };
        let (codes, scales) = encode(&tensor);
        let decoded = decode(bytemuck::cast_slice(&codes), &scales, &tensor.shape).expect("as many scales as rows");
        for (row, (before, after)) in tensor.data.chunks(5).zip(decoded.chunks(5)).enumerate() {
            for (x, y) in before.iter().zip(after) {
                assert!((x - y).abs() <= 0.501 * scales[row], "{x} became {y}");
            }
        }
        let again = encode(&StateTensor { data: decoded, ..tensor.clone() });
        assert_eq!(again.0, codes);
        assert_eq!(decode(&[1, 2, 3], &[1.0], &[2, 2]), None);
    }
}
