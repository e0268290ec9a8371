//! A store of the page's that takes a quantised model, file by file.

use futures::future::LocalBoxFuture;
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::source::Thrown;
use crate::checkpoint::{FileSink, SinkError};

#[wasm_bindgen]
extern "C" {
    /// `PackedSink` of `web/src/packed.ts`.
    #[wasm_bindgen(typescript_type = "PackedSink")]
    pub type PageSink;

    #[wasm_bindgen(method)]
    fn has(this: &PageSink, name: &str, size: f64, head: Uint8Array) -> Promise;

    #[wasm_bindgen(method)]
    fn begin(this: &PageSink, name: &str, size: f64) -> Promise;

    #[wasm_bindgen(method)]
    fn append(this: &PageSink, bytes: Uint8Array) -> Promise;

    #[wasm_bindgen(method)]
    fn finish(this: &PageSink) -> Promise;
}

/// Hands files to the page.
pub(super) struct Handing {
    page: PageSink,
    thrown: Thrown,
}

impl Handing {
    /// `thrown` keeps what the page throws.
    pub(super) fn new(page: PageSink, thrown: Thrown) -> Self {
        Self { page, thrown }
    }

    async fn wait(&self, promise: Promise) -> Result<JsValue, SinkError> {
        JsFuture::from(promise).await.map_err(|value| {
            let said = value.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
            let message = said.unwrap_or_else(|| format!("{value:?}"));
            self.thrown.keep(value);
            message.into()
        })
    }
}

/// Sizes below 2^53 are whole numbers in JavaScript, too.
impl FileSink for Handing {
    fn has<'a>(&'a mut self, name: &'a str, size: u64, head: &'a [u8]) -> LocalBoxFuture<'a, Result<bool, SinkError>> {
        let asked = self.page.has(name, size as f64, head.into());
        Box::pin(async move { Ok(self.wait(asked).await?.is_truthy()) })
    }

    fn begin<'a>(&'a mut self, name: &'a str, size: u64) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        let begun = self.page.begin(name, size as f64);
        Box::pin(async move { self.wait(begun).await.map(drop) })
    }

    fn append<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        let appended = self.page.append(bytes.into());
        Box::pin(async move { self.wait(appended).await.map(drop) })
    }

    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SinkError>> {
        let finished = self.page.finish();
        Box::pin(async move { self.wait(finished).await.map(drop) })
    }
}
