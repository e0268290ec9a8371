//! Tensors of 8 and 4 bits with more than one scale, as quantisers publish them.
//!
//! | tensors, beside each other | number | written by |
//! |---|---|---|
//! | `X.weight` F8_E4M3; `X.weight_scale` of one number or one a row | `code * scale` | Model-Optimizer, compressed-tensors |
//! | `X.weight` F8_E4M3; `X.weight_scale_inv` `[rows / 128, columns / 128]` | `code * scale`, despite the name | transformers' `fp8`, DeepSeek |
//! | `X.weight` U8, two numbers a byte; `X.weight_scale` F8_E4M3 `[rows, columns / 16]`; `X.weight_scale_2` | `code * scale * scale_2` | Model-Optimizer's NVFP4 |
//! | `X.weight_packed` U8; `X.weight_scale` as above; `X.weight_global_scale` | `code * scale / global` | compressed-tensors' NVFP4 |
//!
//! Rows are given as their codes and then the scales of their groups in f32, so that a conversion needs no more than a row.
//! The sizes of blocks follow from the shapes. Scales of inputs, keys and values are for arithmetic in FP8, which is not done
//! here. Sources: *FP8 Formats for Deep Learning* (Micikevicius et al. 2022); OCP Microscaling Formats 1.0 for E2M1; the
//! readers of these checkpoints in transformers 5.24 and vLLM.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use half::{bf16, f16};

use super::{Checkpoint, CheckpointError, Dtype, Plane, Source, TensorInfo};
use crate::formats::{GROUP, e4m3};

/// What codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// FP8: a byte each.
    E4m3,
    /// NVFP4: sign, two bits of exponent, one of mantissa; two a byte, the lower half first.
    E2m1,
}

/// Codes and the places of their scales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// What codes stand for.
    pub codes: Codes,
    /// Columns that share a scale.
    pub columns: usize,
    /// Rows that share a scale.
    pub rows: usize,
    /// True if all columns of a row do.
    whole_rows: bool,
    /// Dtype of the scales.
    scale: Box<Dtype>,
    /// True if the factor of the whole tensor is a divisor.
    divides: bool,
}

/// Ends of the names of scales, behind that of the codes.
const SCALES: [&str; 2] = ["_scale", "_scale_inv"];
/// Ends of the names of a whole tensor's factor, and whether it divides.
const GLOBAL: [(&str, bool); 2] = [("_scale_2", false), ("_global_scale", true)];
/// End of the name of codes that are packed.
const PACKED: &str = "_packed";
/// Numbers of E2M1, without their sign.
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

impl Scaled {
    /// Bytes of the codes of a row.
    pub fn code_bytes(&self, columns: usize) -> usize {
        match self.codes {
            Codes::E4m3 => columns,
            Codes::E2m1 => columns / 2,
        }
    }

    /// Bytes of a row with its scales.
    pub fn row_bytes(&self, columns: usize) -> usize {
        self.code_bytes(columns) + 4 * columns.div_ceil(self.columns.max(1))
    }

    /// Name for people.
    pub fn name(&self) -> &'static str {
        match self.codes {
            Codes::E4m3 => "F8_E4M3",
            Codes::E2m1 => "NVFP4",
        }
    }

    /// True if these are FP8 whose groups of [`GROUP`] columns have one scale each.
    pub(super) fn is_grouped(&self) -> bool {
        self.codes == Codes::E4m3 && (self.whole_rows || self.columns.is_multiple_of(GROUP))
    }

    /// The scale of a column of a row.
    pub(super) fn scale(&self, row: &[u8], columns: usize, column: usize) -> f32 {
        let scales = row[self.code_bytes(columns)..].as_chunks::<4>().0;
        scales.get(column / self.columns.max(1)).map_or(f32::NAN, |scale| f32::from_le_bytes(*scale))
    }

    /// The numbers of a row.
    pub fn decode(&self, row: &[u8], out: &mut [f32]) {
        let (codes, scales) = row.split_at(self.code_bytes(out.len()));
        for (out, (group, scale)) in
            out.chunks_mut(self.columns.max(1)).zip(scales.as_chunks::<4>().0.iter().enumerate())
        {
            let (scale, first) = (f32::from_le_bytes(*scale), group * self.columns);
            for (i, x) in out.iter_mut().enumerate() {
                *x = scale
                    * match self.codes {
                        Codes::E4m3 => e4m3(codes[first + i]),
                        Codes::E2m1 => e2m1(codes[(first + i) / 2] >> (4 * ((first + i) % 2)) & 15),
                    };
            }
        }
    }
}

fn e2m1(bits: u8) -> f32 {
    let magnitude = E2M1[usize::from(bits & 7)];
    if bits & 8 == 0 { magnitude } else { -magnitude }
}

type Tensors = BTreeMap<String, TensorInfo>;

/// Joins codes with their scales. FP8 with one scale in F32 is left to [`planes`](super::planes).
pub(super) fn join(tensors: &mut Tensors, source: &dyn Source) -> Result<(), CheckpointError> {
    let codes = |(name, info): (&String, &TensorInfo)| {
        let packed = name.ends_with(PACKED) && is_bytes(&info.dtype);
        let found = info.dtype == Dtype::F8E4m3 || packed || is_bytes(&info.dtype) && info.shape.len() > 1;
        (found && !SCALES.iter().any(|end| name.ends_with(end))).then(|| name.clone())
    };
    for name in tensors.iter().filter_map(codes).collect::<Vec<_>>() {
        let base = name.strip_suffix(PACKED).unwrap_or(&name).to_owned();
        let Some(scale_name) = SCALES.iter().map(|end| format!("{base}{end}")).find(|name| tensors.contains_key(name))
        else {
            continue;
        };
        let alone = scale_name.ends_with(SCALES[0]) && is_one_f32(&tensors[&scale_name]);
        if alone && tensors[&name].dtype == Dtype::F8E4m3 {
            continue;
        }
        let file = source.describe(&tensors[&name].file);
        let fail = |what: String| CheckpointError::Planes { tensor: name.clone(), file: file.clone(), what };
        let global =
            GLOBAL.iter().find_map(|(end, divides)| Some((tensors.remove(&format!("{base}{end}"))?, *divides)));
        let (Some(mut info), Some(scales)) = (tensors.remove(&name), tensors.remove(&scale_name)) else { continue };
        let codes = if info.dtype == Dtype::F8E4m3 { Codes::E4m3 } else { Codes::E2m1 };
        let [rows, width] = info.shape[..] else {
            return Err(fail(format!("is scaled, but its shape {:?} is not a matrix's", info.shape)));
        };
        let columns = match codes {
            Codes::E4m3 => Some(width),
            Codes::E2m1 => width.checked_mul(2),
        };
        let columns = columns.ok_or_else(|| fail(format!("has rows of {width} bytes, too many for this machine")))?;
        let cut = |what: &str| fail(format!("{:?} has scales {:?}, {what}", info.shape, scales.shape));
        let [of_rows, of_columns] = counts(&scales.shape).ok_or_else(|| cut("which are those of no matrix"))?;
        let (Some(block_rows), Some(block_columns)) = (block(rows, of_rows), block(columns, of_columns)) else {
            return Err(cut("which cut it into no blocks of one size"));
        };
        match (codes, &scales.dtype, &global) {
            (Codes::E2m1, Dtype::F8E4m3, Some(_)) if block_columns == 16 && block_rows == 1 => {}
            (Codes::E2m1, dtype, _) => {
                return Err(fail(format!(
                    "holds codes of 4 bits with scales {:?} in {dtype}; NVFP4 has one in F8_E4M3 for every 16 and one in F32 for all",
                    scales.shape
                )));
            }
            (Codes::E4m3, Dtype::F32 | Dtype::F16 | Dtype::Bf16, _) => {}
            (_, dtype, _) => return Err(fail(format!("has scales in {dtype}; F32, F16 and BF16 are read"))),
        }
        let divides = global.as_ref().is_some_and(|(_, divides)| *divides);
        info.planes.push(Plane { file: scales.file, range: scales.range });
        if let Some((global, _)) = global {
            if !is_one_f32(&global) {
                return Err(fail(format!(
                    "has the scale {:?} in {}; it should be one number in F32",
                    global.shape, global.dtype
                )));
            }
            info.planes.push(Plane { file: global.file, range: global.range });
        }
        info.shape = vec![rows, columns];
        info.dtype = Dtype::Scaled(Scaled {
            codes,
            columns: block_columns,
            rows: block_rows,
            whole_rows: block_columns == columns,
            scale: Box::new(scales.dtype),
            divides,
        });
        tensors.insert(base, info);
    }
    Ok(())
}

fn is_bytes(dtype: &Dtype) -> bool {
    matches!(dtype, Dtype::Other(name) if name == "U8")
}

pub(super) fn is_one_f32(info: &TensorInfo) -> bool {
    info.dtype == Dtype::F32 && info.shape.iter().product::<usize>() == 1
}

/// How many scales there are along rows and columns; dimensions of one are left out of longer shapes.
fn counts(shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [] => Some([1, 1]),
        [count] => Some([count, 1]),
        [down, across] | [down, 1, across, 1] => Some([down, across]),
        _ => None,
    }
}

/// The size of blocks of which `count` cover `size`: a power of two, or all of it.
fn block(size: usize, count: usize) -> Option<usize> {
    if count == 1 && size > 0 {
        return Some(size);
    }
    if count == 0 {
        return None;
    }
    let block = size.div_ceil(count).checked_next_power_of_two()?;
    (size.div_ceil(block) == count).then_some(block)
}

impl Checkpoint {
    /// Rows of codes, each followed by its scales in f32.
    pub(super) async fn scaled_rows<'a>(
        &'a self,
        tensor: &str,
        info: &'a TensorInfo,
        scaled: &Scaled,
        rows: Range<usize>,
    ) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let columns = info.columns();
        let (code_bytes, across) = (scaled.code_bytes(columns), columns.div_ceil(scaled.columns));
        let codes = self.plane_rows(&info.file, &info.range, code_bytes, &rows).await?;
        if scaled.codes == Codes::E4m3
            && let Some(at) = codes.iter().position(|code| code & 0x7f == 0x7f)
        {
            let index = vec![rows.start + at / columns, at % columns];
            return Err(CheckpointError::NotFinite {
                tensor: tensor.into(),
                file: self.describe(&info.file),
                index,
                value: f32::NAN,
            });
        }
        let Plane { file, range } = &info.planes[0];
        let scale_bytes = match &*scaled.scale {
            Dtype::F8E4m3 => 1,
            dtype => dtype.format().map_or(1, |format| format.row_bytes(1)),
        };
        let lines = rows.start / scaled.rows..rows.end.div_ceil(scaled.rows);
        let scales = self.plane_rows(file, range, across * scale_bytes, &lines).await?;
        let factor = match info.planes.get(1) {
            Some(Plane { file, range }) => {
                let factor = self.number(file, range).await?;
                if scaled.divides { 1.0 / factor } else { factor }
            }
            None => 1.0,
        };
        let scale = |bytes: &[u8]| {
            factor
                * match *scaled.scale {
                    Dtype::F8E4m3 => e4m3(bytes[0]),
                    Dtype::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                    Dtype::Bf16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                    _ => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
                }
        };
        let mut all = Vec::with_capacity(rows.len() * scaled.row_bytes(columns));
        for row in rows.clone() {
            all.extend_from_slice(&codes[(row - rows.start) * code_bytes..][..code_bytes]);
            let line = row / scaled.rows - lines.start;
            for bytes in scales[line * across * scale_bytes..][..across * scale_bytes].chunks_exact(scale_bytes) {
                let scale = scale(bytes);
                if !scale.is_finite() {
                    return Err(self.planes_fault(
                        tensor,
                        info,
                        format!("has a scale in row {row} that is no finite number"),
                    ));
                }
                all.extend_from_slice(&scale.to_le_bytes());
            }
        }
        Ok(Cow::Owned(all))
    }
}
