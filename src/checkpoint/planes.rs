//! Tensors that are several in the file: quantised ones, and FP8 with its scale.
//!
//! Tensors that `checkpoint::convert` writes for a quantised tensor `X` of shape `[.., rows, columns]` (see
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
//! with. Its `X.input_scale` is for arithmetic in FP8; activations are f32 here, and it is not needed. Codes with several
//! scales: [`scaled`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::{CONFIG, CheckpointError, Dtype, Plane, Source, TensorInfo, scaled};
use crate::formats::{GROUP, Quantised};
use crate::json;

/// Name of our own formats in `quantization_config`.
pub(super) const METHOD: &str = "selvedge";
/// After the name of a quantised tensor: its scales.
pub(super) const SCALES: &str = ".scales";
/// After the name of a quantised tensor: its minimums.
pub(super) const MINIMUMS: &str = ".minimums";
/// After the name of an FP8 tensor: its scale.
pub(super) const FP8_SCALE: &str = "_scale";

type Tensors = BTreeMap<String, TensorInfo>;

/// Makes one tensor of those that belong together.
pub(super) fn join(config: &str, tensors: &mut Tensors, source: &dyn Source) -> Result<(), CheckpointError> {
    // A config that is no JSON is complained of by those who read it.
    let config = json::parse(config).unwrap_or_default();
    let fail = |method: String| CheckpointError::Quantisation { file: source.describe(CONFIG), method };
    let object = |config: &Value, field: &str| {
        config
            .get(field)
            .filter(|value| value.as_object().is_none_or(|fields| !fields.is_empty()) && !value.is_null())
            .cloned()
    };
    let text = config.get("text_config").cloned().unwrap_or_default();
    let of_config = object(&config, "quantization_config").or_else(|| object(&text, "quantization_config"));
    let text_of = |field: &str| of_config.as_ref().and_then(|config| config.get(field)).and_then(Value::as_str);
    match (&of_config, text_of("quant_method")) {
        (Some(_), Some(METHOD)) => return quantised(tensors, source).and_then(|()| fp8(tensors, source)),
        (Some(_), Some(method)) => {
            let field = METHODS_READ.iter().find(|(name, _)| *name == method).map(|(_, field)| *field);
            let field = field.ok_or_else(|| fail(format!("`{method}`")))?;
            // Those of other numbers are told by their names. What is left over is told by its tensors.
            if let Some(kind) = text_of(field).filter(|kind| !is_read(kind)) {
                return Err(fail(format!("`{method}` with `{kind}`")));
            }
        }
        (None, _) if object(&config, "quantization").is_some() => return Err(fail("MLX does".into())),
        (None, _) if object(&config, "compression_config").is_some() => {
            return Err(fail("`compressed-tensors`".into()));
        }
        (None, _) => {}
        (Some(_), _) if object(&config, "quantization").is_some() => return Err(fail("MLX does".into())),
        (Some(of), _) if ["load_in_8bit", "load_in_4bit"].iter().any(|field| of.get(field).is_some()) => {
            return Err(fail("`bitsandbytes`".into()));
        }
        (Some(_), _) => return Err(fail("something without `quant_method`".into())),
    }
    fp8(tensors, source)?;
    if let Some((name, method)) = tensors.keys().find_map(|name| Some((name, method_of(name)?))) {
        let fail = |method| CheckpointError::Quantisation { file: source.describe(&tensors[name].file), method };
        return Err(fail(format!("{method} does (tensor `{name}`)")));
    }
    Ok(())
}

/// Methods of FP8 and NVFP4, and the field that tells which numbers they use.
const METHODS_READ: [(&str, &str); 4] =
    [("modelopt", "quant_algo"), ("compressed-tensors", "format"), ("fp8", "fmt"), ("fbgemm_fp8", "fmt")];

/// True for the names of FP8 and NVFP4, alone or mixed. AWQ scales what a matrix is multiplied with, too.
fn is_read(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let known = ["fp8", "e4m3", "nvfp4", "float-quantized", "mixed"].iter().any(|name| kind.contains(name));
    known && !kind.contains("awq")
}

/// Ends of the names of tensors by which weights quantised in other ways are known, where no config tells.
const METHODS: [(&str, &str); 7] = [
    (".qweight", "GPTQ or AWQ"),
    (".qzeros", "GPTQ or AWQ"),
    (".weight_packed", "compressed-tensors"),
    (".weight.absmax", "bitsandbytes"),
    (".weight.quant_map", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight_scale_2", "modelopt with NVFP4"),
];

/// The method that a tensor's name tells.
fn method_of(name: &str) -> Option<&'static str> {
    METHODS.iter().find(|(end, _)| name.ends_with(end)).map(|&(_, method)| method)
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

/// Joins FP8 and NVFP4 tensors with their scales.
fn fp8(tensors: &mut Tensors, source: &dyn Source) -> Result<(), CheckpointError> {
    scaled::join(tensors, source)?;
    let names: Vec<String> =
        tensors.iter().filter(|(_, info)| info.dtype == Dtype::F8E4m3).map(|(name, _)| name.clone()).collect();
    for name in names {
        let file = tensors.get(&name).map_or_else(String::new, |info| source.describe(&info.file));
        let fail = |what: String| CheckpointError::Planes { tensor: name.clone(), file, what };
        let Some(scale) = tensors.remove(&format!("{name}{FP8_SCALE}")) else { continue };
        if !scaled::is_one_f32(&scale) {
            let (dtype, shape) = (&scale.dtype, &scale.shape);
            return Err(fail(format!("has the scale {shape:?} in {dtype}; it should be one number in F32")));
        }
        if let Some(info) = tensors.get_mut(&name) {
            info.planes.push(Plane { file: scale.file, range: scale.range });
        }
    }
    Ok(())
}
