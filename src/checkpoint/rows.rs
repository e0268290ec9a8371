//! Rows of a tensor, wherever its planes lie.

use std::borrow::Cow;
use std::ops::Range;

use half::f16;

use super::{Checkpoint, CheckpointError, Dtype, Plane, TensorInfo};

impl TensorInfo {
    /// Numbers of a row: the last of several dimensions, or one.
    pub fn columns(&self) -> usize {
        match self.shape.as_slice() {
            [_, .., last] => *last,
            _ => 1,
        }
    }

    /// Bytes of files that it is made of, in order.
    pub fn places(&self) -> Vec<(&str, Range<u64>)> {
        match &self.packed {
            Some(packed) => packed.places(self.columns()).collect(),
            None => {
                let planes = self.planes.iter().map(|plane| (plane.file.as_str(), plane.range.clone()));
                std::iter::once((self.file.as_str(), self.range.clone())).chain(planes).collect()
            }
        }
    }

    /// Bytes of a row as [`Checkpoint::rows`] gives it.
    pub fn row_bytes(&self) -> usize {
        match &self.dtype {
            Dtype::F8E4m3 => self.columns(),
            Dtype::Merged(_) => 4 * self.columns(),
            Dtype::Scaled(scaled) => scaled.row_bytes(self.columns()),
            dtype => dtype.format().map_or(0, |format| format.row_bytes(self.columns())),
        }
    }
}

impl Checkpoint {
    /// Rows of a tensor, one after the other, all of whose numbers are finite. Those of a quantised one are put together
    /// from their planes: codes, scales, minimums. Faults name it `tensor`.
    pub async fn rows<'a>(
        &'a self,
        tensor: &str,
        info: &'a TensorInfo,
        rows: Range<usize>,
    ) -> Result<Cow<'a, [u8]>, CheckpointError> {
        if let Some(merged) = &info.merged {
            return self.merged_rows(tensor, merged, rows).await;
        }
        if let Some(packed) = &info.packed {
            return self.packed_rows(tensor, info, packed, rows).await;
        }
        if let Dtype::Scaled(scaled) = &info.dtype {
            return self.scaled_rows(tensor, info, scaled, rows).await;
        }
        let Dtype::Quantised(format) = info.dtype else {
            let bytes = self.plane_rows(&info.file, &info.range, info.row_bytes(), &rows).await?;
            self.check_finite(tensor, info, rows.start * info.columns(), &bytes)?;
            return Ok(bytes);
        };
        let [codes, scales, minimums] = format.planes(info.columns());
        let mut planes = vec![(self.plane_rows(&info.file, &info.range, codes, &rows).await?, codes)];
        for (Plane { file, range }, bytes) in info.planes.iter().zip([scales, minimums]) {
            planes.push((self.plane_rows(file, range, bytes, &rows).await?, bytes));
        }
        for ((plane, bytes), what) in planes[1..].iter().zip(["scale", "minimum"]) {
            let halves = plane.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]));
            if let Some(index) = halves.into_iter().position(|x| !x.is_finite()) {
                let row = rows.start + 2 * index / (*bytes).max(1);
                let what = format!("has a {what} in row {row} that is no finite number");
                return Err(self.planes_fault(tensor, info, what));
            }
        }
        let mut all = Vec::with_capacity(rows.len() * info.row_bytes());
        for row in 0..rows.len() {
            for (plane, bytes) in &planes {
                all.extend_from_slice(&plane[row * bytes..][..*bytes]);
            }
        }
        Ok(Cow::Owned(all))
    }

    pub(super) async fn plane_rows<'a>(
        &'a self,
        file: &'a str,
        range: &Range<u64>,
        row_bytes: usize,
        rows: &Range<usize>,
    ) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let at = |row: usize| range.start + row as u64 * row_bytes as u64;
        Ok(self.source.read(file, at(rows.start)..at(rows.end)).await?)
    }

    /// One number in F32, a scale of a whole tensor.
    pub(super) async fn number(&self, file: &str, range: &Range<u64>) -> Result<f32, CheckpointError> {
        let bytes = self.source.read(file, range.clone()).await?;
        Ok(bytes.first_chunk().map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes)))
    }

    /// Scale of an FP8 tensor; 1 for any other.
    pub(super) async fn fp8_scale(&self, tensor: &str, info: &TensorInfo) -> Result<f32, CheckpointError> {
        let (Dtype::F8E4m3, Some(Plane { file, range })) = (&info.dtype, info.planes.first()) else { return Ok(1.0) };
        let scale = self.number(file, range).await?;
        if scale.is_finite() {
            Ok(scale)
        } else {
            Err(self.planes_fault(tensor, info, format!("has the scale {scale}, which is no finite number")))
        }
    }

    pub(super) fn planes_fault(&self, tensor: &str, info: &TensorInfo, what: String) -> CheckpointError {
        CheckpointError::Planes { tensor: tensor.to_owned(), file: self.describe(&info.file), what }
    }
}
