//! Rows of a tensor as a model's recipe wants them, from a file that keeps them in pieces, in another order, or in blocks.

use std::borrow::Cow;
use std::ops::Range;

use super::types::GgmlType;
use crate::checkpoint::{Checkpoint, CheckpointError, Dtype, TensorInfo};
use crate::formats::GROUP;

/// Rows or columns whose order the converter has changed: `[.., outer, inner, block]` of the model lies in the file as
/// `[.., inner, outer, block]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transposed {
    /// Slower of the two dimensions in the model.
    pub outer: usize,
    /// Faster of the two in the model.
    pub inner: usize,
    /// Neighbours that stay together.
    pub block: usize,
}

impl Transposed {
    /// Place in the file of a row or column of the model.
    fn stored(self, at: usize) -> usize {
        let Self { outer, inner, block } = self;
        let (of_all, within) = (at / (outer * inner * block), at % (outer * inner * block));
        let (o, i, b) = (within / (inner * block), within / block % inner, within % block);
        of_all * outer * inner * block + (i * outer + o) * block + b
    }

    /// True if so many rows or columns are whole.
    pub fn divides(self, count: usize) -> bool {
        let size = self.outer * self.inner * self.block;
        size > 0 && count.is_multiple_of(size)
    }
}

/// Rows that lie one after the other in a file, but for their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The file.
    pub file: String,
    /// Its first byte in it.
    pub start: u64,
    /// How many rows.
    pub rows: usize,
    /// Their order, if it is another one.
    pub order: Option<Transposed>,
}

/// A change of every number that the converter has made and that is undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Undo {
    /// None.
    #[default]
    Nothing,
    /// `-exp(x)` was stored: `ln(-y)`.
    NegExp,
    /// `1 + x` was stored: `y - 1`.
    AddOne,
}

/// Storage of a tensor in a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Type of the blocks of its rows.
    pub kind: GgmlType,
    /// Its rows, from the first to the last.
    pub(crate) segments: Vec<Segment>,
    /// Order of its columns, if it is another one.
    pub(crate) columns: Option<Transposed>,
    /// What is undone; only of F32.
    pub(crate) undo: Undo,
}

impl Packed {
    /// Bytes of files that it is made of, of rows of so many columns.
    pub(crate) fn places(&self, columns: usize) -> impl Iterator<Item = (&str, Range<u64>)> {
        let row_bytes = self.kind.row_bytes(columns) as u64;
        self.segments.iter().map(move |one| (one.file.as_str(), one.start..one.start + one.rows as u64 * row_bytes))
    }

    /// Columns of unpacked rows in the model's order.
    fn reorder(order: Transposed, dtype: &Dtype, columns: usize, rows: &[u8]) -> Vec<u8> {
        let planes: Vec<(usize, usize)> = match dtype {
            // Bytes of a plane, and those of a block in it.
            Dtype::Quantised(format) => {
                format.planes(columns).into_iter().map(|bytes| (bytes, bytes * order.block / columns)).collect()
            }
            dtype => {
                let bytes = dtype.format().map_or(0, |format| format.row_bytes(columns));
                vec![(bytes, bytes * order.block / columns)]
            }
        };
        let blocks = Transposed { block: 1, ..order };
        let mut out = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while !rest.is_empty() {
            for &(bytes, block) in &planes {
                let (plane, after) = rest.split_at(bytes);
                for at in 0..bytes.checked_div(block).unwrap_or(0) {
                    out.extend_from_slice(&plane[blocks.stored(at) * block..][..block]);
                }
                rest = after;
            }
        }
        out
    }

    /// Refuses what cannot be put in order: a sentence about the tensor.
    pub(super) fn check(&self, dtype: &Dtype, columns: usize) -> Result<(), String> {
        let kind = self.kind;
        if self.undo != Undo::Nothing && *dtype != Dtype::F32 {
            return Err(format!("is kept in {kind}; only F32 is read there"));
        }
        if kind.block().is_some_and(|(numbers, _)| !columns.is_multiple_of(numbers)) {
            return Err(format!("has rows of {columns} numbers in {kind}, whose blocks they cut"));
        }
        let mut orders = self
            .segments
            .iter()
            .filter_map(|one| Some((one.order?, one.rows)))
            .chain(self.columns.map(|order| (order, columns)));
        if let Some((_, count)) = orders.find(|(order, count)| !order.divides(*count)) {
            return Err(format!("has {count} rows or columns, which are no whole heads"));
        }
        if let (Some(order), Dtype::Quantised(_)) = (self.columns, dtype)
            && !order.block.is_multiple_of(GROUP)
        {
            return Err(format!("has heads of {} columns in {kind}, whose groups of {GROUP} they cut", order.block));
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Rows of a tensor of a GGUF file, as its dtype has them.
    pub(in crate::checkpoint) async fn packed_rows<'a>(
        &'a self,
        tensor: &str,
        info: &'a TensorInfo,
        packed: &'a Packed,
        rows: Range<usize>,
    ) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let columns = info.columns();
        let stored = self.stored_rows(packed, columns, &rows).await?;
        let mut bytes = match info.dtype {
            Dtype::Quantised(_) => Cow::Owned(packed.kind.unpack(&stored, columns).ok_or_else(|| {
                self.planes_fault(tensor, info, format!("has a scale in rows {rows:?} that is no finite number in f16"))
            })?),
            _ => stored,
        };
        if let Some(order) = packed.columns {
            bytes = Cow::Owned(Packed::reorder(order, &info.dtype, columns, &bytes));
        }
        let undo = match packed.undo {
            Undo::Nothing => None,
            Undo::NegExp => Some((|y| f32::ln(-y)) as fn(f32) -> f32),
            Undo::AddOne => Some((|y| y - 1.0) as fn(f32) -> f32),
        };
        if let Some(undo) = undo {
            for number in bytes.to_mut().as_chunks_mut::<4>().0 {
                *number = undo(f32::from_le_bytes(*number)).to_le_bytes();
            }
        }
        self.check_finite(tensor, info, rows.start * columns, &bytes)?;
        Ok(bytes)
    }

    /// Rows in the model's order, in the blocks of the file.
    async fn stored_rows<'a>(
        &'a self,
        packed: &'a Packed,
        columns: usize,
        rows: &Range<usize>,
    ) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let row_bytes = packed.kind.row_bytes(columns);
        let mut pieces = vec![];
        let mut first = 0;
        for segment in &packed.segments {
            let inside = rows.start.max(first) - first..rows.end.min(first + segment.rows).saturating_sub(first);
            first += segment.rows;
            if inside.is_empty() {
                continue;
            }
            let at = |row: usize| segment.start + row as u64 * row_bytes as u64;
            let Some(order) = segment.order else {
                pieces.push(self.source.read(&segment.file, at(inside.start)..at(inside.end)).await?);
                continue;
            };
            // All between the outermost ones, then those that are wanted.
            let places = || inside.clone().map(|row| order.stored(row));
            let (low, high) = (places().min().unwrap_or(0), places().max().map_or(0, |last| last + 1));
            let all = self.source.read(&segment.file, at(low)..at(high)).await?;
            let wanted: Vec<&[u8]> = places().map(|row| &all[(row - low) * row_bytes..][..row_bytes]).collect();
            pieces.push(Cow::Owned(wanted.concat()));
        }
        Ok(match pieces.len() {
            1 => pieces.swap_remove(0),
            _ => Cow::Owned(pieces.concat()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_that_of_a_transposition() {
        // Two heads of six rows: pairs that rotate together lie three apart in the model, side by side in the file.
        let pairs = Transposed { outer: 2, inner: 3, block: 1 };
        let stored: Vec<usize> = (0..12).map(|row| pairs.stored(row)).collect();
        assert_eq!(stored, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        // Two key heads with three value heads of two rows each.
        let heads = Transposed { outer: 2, inner: 3, block: 2 };
        let stored: Vec<usize> = (0..12).map(|row| heads.stored(row)).collect();
        assert_eq!(stored, [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]);
        assert!(heads.divides(24) && !heads.divides(18));
    }

    #[test]
    fn columns_are_put_back_plane_by_plane() {
        use crate::formats::Quantised;
        let order = Transposed { outer: 2, inner: 2, block: GROUP };
        let columns = 4 * GROUP;
        let dtype = Dtype::Quantised(Quantised::Q4m);
        // Group g of the file has codes, scale and minimum of g.
        let plane = |first: u8, bytes: usize, groups: [u8; 4]| groups.map(|g| vec![first + g; bytes]).concat();
        let row = |groups| [plane(0, GROUP / 2, groups), plane(16, 2, groups), plane(32, 2, groups)].concat();
        let two = [row([0, 1, 2, 3]), row([4, 5, 6, 7])].concat();
        let wanted = [row([0, 2, 1, 3]), row([4, 6, 5, 7])].concat();
        assert_eq!(Packed::reorder(order, &dtype, columns, &two), wanted);
    }
}
