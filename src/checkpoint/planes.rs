//! Tensors that are several in the file: quantised ones, and FP8 with its scale.
//!
//! What `selvedge convert` writes for a quantised tensor `X` of shape `[.., rows, columns]` (see
//! [`Quantised`] for what the bytes mean):
//!
//! | tensor | dtype | shape |
//! |---|---|---|
//! | `X` | I8 (`q8`), U8 (`q4`, `q4m`: two numbers a byte) | `[.., rows, columns]`, `[.., rows, columns / 2]` |
//! | `X.scales` | F16 | `[.., rows, groups]` |
//! | `X.minimums` (`q4m` alone) | F16 | `[.., rows, groups]` |
//!
//! and `"quantization_config": {"quant_method": "selvedge", ..}` in `config.json`.
//!
//! Model-Optimizer's FP8 has `X.weight` in F8_E4M3 and one F32 number, `X.weight_scale`, that it is to be multiplied
//! with. Its `X.input_scale` is for arithmetic in FP8; activations are f32 here, and it is not needed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{CONFIG, CheckpointError, Dtype, Plane, Source, TensorInfo};
use crate::formats::{GROUP, Quantised};
use crate::json;

/// What `quantization_config` calls our own formats.
pub(super) const METHOD: &str = "selvedge";
/// After the name of a quantised tensor: its scales.
pub(super) const SCALES: &str = ".scales";
/// After the name of a quantised tensor: its minimums.
pub(super) const MINIMUMS: &str = ".minimums";
/// After the name of an FP8 tensor: its scale.
pub(super) const FP8_SCALE: &str = "_scale";
/// After the name of an FP8 tensor whose blocks have scales of their own, as nobody here reads them.
const FP8_BLOCKS: &str = "_scale_inv";

type Tensors = BTreeMap<String, TensorInfo>;

/// Makes one tensor of those that belong together.
pub(super) fn join(config: &str, tensors: &mut Tensors, source: &dyn Source) -> Result<(), CheckpointError> {
    // A config that is no JSON is complained of by those who read it.
    let config = json::parse(config).unwrap_or_default();
    let fail = |method: String| CheckpointError::Quantisation { file: source.describe(CONFIG), method };
    if let Some(config) = config.get("quantization_config").filter(|config| !config.is_null()) {
        match config.get("quant_method").and_then(Value::as_str) {
            Some(METHOD) => quantised(tensors, source)?,
            Some("modelopt") => match config.get("quant_algo").and_then(Value::as_str) {
                Some("FP8") | None => {}
                Some(other) => return Err(fail(format!("`modelopt` with `{other}`"))),
            },
            Some(other) => return Err(fail(format!("`{other}`"))),
            None => return Err(fail("something without `quant_method`".into())),
        }
    }
    fp8(tensors, source)
}

/// Joins codes, scales and minimums.
fn quantised(tensors: &mut Tensors, source: &dyn Source) -> Result<(), CheckpointError> {
    let names: Vec<String> = tensors.keys().filter_map(|name| name.strip_suffix(SCALES)).map(str::to_owned).collect();
    for name in names {
        let scales_name = format!("{name}{SCALES}");
        let scales = tensors.remove(&scales_name);
        let minimums = tensors.remove(&format!("{name}{MINIMUMS}"));
        let Some((codes, scales)) = tensors.get_mut(&name).zip(scales) else {
            let file = source.describe("");
            return Err(CheckpointError::Planes { tensor: name, file, what: "has scales but is not there".into() });
        };
        let file = source.describe(&codes.file);
        let fail = |what: String| CheckpointError::Planes { tensor: name.clone(), file: file.clone(), what };
        let format = match (&codes.dtype, &minimums) {
            (Dtype::Other(name), None) if name == "I8" => Quantised::Q8,
            (Dtype::Other(name), None) if name == "U8" => Quantised::Q4,
            (Dtype::Other(name), Some(_)) if name == "U8" => Quantised::Q4m,
            (dtype, _) => return Err(fail(format!("holds codes in {dtype}; I8 (without minimums) and U8 are known"))),
        };
        let Some((width, others)) = codes.shape.split_last().filter(|(_, others)| !others.is_empty()) else {
            return Err(fail(format!("is quantised, but its shape {:?} is not a matrix's", codes.shape)));
        };
        let columns = if format == Quantised::Q8 { Some(*width) } else { width.checked_mul(2) };
        let columns = columns.ok_or_else(|| fail(format!("has rows of {width} bytes, too many for this machine")))?;
        let groups = [others, &[columns.div_ceil(GROUP)]].concat();
        let shape = [others, &[columns]].concat();
        for (what, plane) in [("scales", Some(scales)), ("minimums", minimums)] {
            let Some(plane) = plane else { continue };
            if plane.dtype != Dtype::F16 || plane.shape != groups {
                let (dtype, got) = (&plane.dtype, &plane.shape);
                return Err(fail(format!("{shape:?} has {what} {got:?} in {dtype}; they should be {groups:?} in F16")));
            }
            codes.planes.push(Plane { file: plane.file, range: plane.range });
        }
        (codes.dtype, codes.shape) = (Dtype::Quantised(format), shape);
    }
    Ok(())
}

/// Joins FP8 tensors with their scales.
fn fp8(tensors: &mut Tensors, source: &dyn Source) -> Result<(), CheckpointError> {
    let names: Vec<String> =
        tensors.iter().filter(|(_, info)| info.dtype == Dtype::F8E4m3).map(|(name, _)| name.clone()).collect();
    for name in names {
        let file = tensors.get(&name).map_or_else(String::new, |info| source.describe(&info.file));
        let fail = |what: String| CheckpointError::Planes { tensor: name.clone(), file, what };
        if tensors.contains_key(&format!("{name}{FP8_BLOCKS}")) {
            return Err(fail(format!("has scales of blocks (`{name}{FP8_BLOCKS}`); one scale a tensor can be read")));
        }
        let Some(scale) = tensors.remove(&format!("{name}{FP8_SCALE}")) else { continue };
        if scale.dtype != Dtype::F32 || scale.shape.iter().product::<usize>() != 1 {
            let (dtype, shape) = (&scale.dtype, &scale.shape);
            return Err(fail(format!("has the scale {shape:?} in {dtype}; it should be one number in F32")));
        }
        if let Some(info) = tensors.get_mut(&name) {
            info.planes.push(Plane { file: scale.file, range: scale.range });
        }
    }
    Ok(())
}
