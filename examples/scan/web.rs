//! The Mamba-2 scan alone, for a page that races it: `tools/bench/linear_attention.mjs`.

mod alone;

use alone::{Alone, Kind, Rehearsed};
use js_sys::{Float32Array, Map};
use selvedge::backend::webgpu::{WebGpuBackend, WebGpuOptions};
use wasm_bindgen::prelude::*;

/// The scan over some rows, its inputs on the device.
#[wasm_bindgen]
pub struct Scan {
    alone: Alone,
    scan: Rehearsed,
}

#[wasm_bindgen]
impl Scan {
    /// `numbers` is a `Map` of `Float32Array`s: inputs `x` `[rows, heads * columns]`, `dt` `[rows, heads]`, `b` and
    /// `c` `[rows, groups * states]`, weights `a`, `d` and `dt_bias` `[heads]`.
    pub async fn load(
        numbers: Map,
        rows: usize,
        heads: usize,
        columns: usize,
        groups: usize,
        states: usize,
    ) -> Result<Self, JsError> {
        let make = |name: &str, count: usize| {
            let found = numbers.get(&name.into()).dyn_into::<Float32Array>().map(|array| array.to_vec());
            found.ok().filter(|array| array.len() == count).unwrap_or_else(|| vec![f32::NAN; count])
        };
        let options = WebGpuOptions { self_test: false, ..WebGpuOptions::default() };
        let backend = Box::new(WebGpuBackend::new(&options).await?);
        let mut alone = Alone::new(backend, Kind::Mamba2 { heads, columns, groups, states }, rows, make).await?;
        let scan = alone.rehearse(rows, make)?;
        Ok(Self { alone, scan })
    }

    /// Adapter and driver.
    #[wasm_bindgen(getter)]
    pub fn device(&self) -> String {
        self.alone.device()
    }

    /// Result of the scan from an empty state: `f32 [rows, heads * columns]`.
    pub async fn result(&mut self) -> Result<Vec<f32>, JsError> {
        Ok(self.alone.result(&self.scan).await?)
    }

    /// Runs the scan `times` times, one step each, and waits for the last.
    pub async fn run(&mut self, times: usize) -> Result<(), JsError> {
        Ok(self.alone.run(&self.scan, times).await?)
    }
}
