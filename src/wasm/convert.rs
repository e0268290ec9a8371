//! A model written in other formats, for a page that stores the small form of it.

use js_sys::Function;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::*;

use super::error::WasmError;
use super::requests::{ConvertRequest, Device};
use super::sink::{Handing, PageSink};
use super::source::{Asking, PageSource, Thrown};
use crate::arch::{self, ArchOptions, Config};
use crate::backend::Backend;
use crate::backend::webgpu::WebGpuBackend;
use crate::checkpoint::{self, Checkpoint, ConvertOptions, LoadProgress, RowQuantiser, Storage};
use crate::runtime::EngineError;

/// Writes a model in other formats, file by file, as `checkpoint::convert` tells; on a GPU, numbers are rounded there.
/// `request` is JSON; `progress` is called with bytes done, bytes in all and a tensor's name. A value that source or
/// sink throw is thrown again unchanged. Gives whether the kernels are those that the device would choose.
#[wasm_bindgen]
pub async fn convert(source: PageSource, request: String, sink: PageSink, progress: Function) -> Result<bool, JsValue> {
    let thrown = Thrown::default();
    let (source, mut sink) = (Asking::new(source, thrown.clone()), Handing::new(sink, thrown.clone()));
    let done = write(source, &request, &mut sink, &progress).await;
    done.map_err(|error| thrown.take().unwrap_or_else(|| error.into()))
}

async fn write(source: Asking, request: &str, sink: &mut Handing, progress: &Function) -> Result<bool, WasmError> {
    let ConvertRequest { place, weights, shard } = serde_json::from_str(request)?;
    let checkpoint = Checkpoint::open(source).await?;
    let config = Config::parse(checkpoint.config()).map_err(EngineError::from)?;
    let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).map_err(EngineError::from)?;
    let options = ConvertOptions { storage: Storage::from(weights), shard };
    let mut gpu = match place.device {
        Device::Cpu => None,
        Device::Gpu => Some(WebGpuBackend::new(&place.webgpu()).await?),
    };
    let found_right = gpu.as_ref().is_none_or(|gpu| gpu.info().notice.is_none());
    let quantiser = gpu.as_mut().map(|gpu| gpu as &mut dyn RowQuantiser);
    let mut told = |at: LoadProgress<'_>| {
        let numbers = [at.done as f64, at.total as f64].map(JsValue::from);
        let _ = progress.call3(&JsValue::NULL, &numbers[0], &numbers[1], &at.tensor.into());
        // The source stops a conversion, as it stops a load.
        true
    };
    checkpoint::convert(&checkpoint, &model.graph, options, quantiser, sink, &mut told).await?;
    Ok(found_right)
}
