//! A model whose files the page reads: only the ranges asked for are copied into WebAssembly's heap.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use futures::future::LocalBoxFuture;
use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::checkpoint::{Source, SourceError};

#[wasm_bindgen]
extern "C" {
    /// `Source` of `web/src/types.ts`.
    #[wasm_bindgen(typescript_type = "Source")]
    pub type PageSource;

    #[wasm_bindgen(method, catch)]
    fn describe(this: &PageSource, name: &str) -> Result<String, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn size(this: &PageSource, name: &str) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn read(this: &PageSource, name: &str, start: f64, end: f64) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, getter)]
    fn gguf(this: &PageSource) -> JsValue;

    #[wasm_bindgen(method, getter)]
    fn files(this: &PageSource) -> JsValue;

    /// Sources of adapters, each with `adapter_config.json` and `adapter_model.safetensors`; only of a source that is loaded.
    #[wasm_bindgen(method, getter)]
    fn adapters(this: &PageSource) -> JsValue;
}

/// A value that the page threw, kept so that it can be thrown again unchanged.
#[derive(Clone, Default)]
pub(super) struct Thrown(Rc<RefCell<Option<JsValue>>>);

impl Thrown {
    /// Keeps what was thrown, if nothing was before.
    pub(super) fn keep(&self, value: JsValue) {
        self.0.borrow_mut().get_or_insert(value);
    }

    /// The value that was thrown first.
    pub(super) fn take(&self) -> Option<JsValue> {
        self.0.borrow_mut().take()
    }
}

/// Asks the page.
pub(super) struct Asking {
    page: PageSource,
    gguf: Option<String>,
    thrown: Thrown,
}

impl Asking {
    /// `thrown` keeps what the page throws, which an error's text alone would lose.
    pub(super) fn new(page: PageSource, thrown: Thrown) -> Self {
        let gguf = page.gguf().as_string();
        Self { page, gguf, thrown }
    }

    /// The adapters that are to be merged into the model.
    pub(super) fn adapters(&self) -> Vec<Self> {
        let list = self.page.adapters();
        let adapters = list.dyn_ref::<Array>().map(|list| list.to_vec()).unwrap_or_default();
        adapters.into_iter().map(|page| Self::new(page.unchecked_into(), self.thrown.clone())).collect()
    }

    fn fault(&self, file: &str, value: JsValue) -> SourceError {
        let said = value.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
        let message = said.unwrap_or_else(|| format!("{value:?}"));
        self.thrown.keep(value);
        SourceError::Io { file: self.describe(file), message }
    }

    async fn ask(&self, file: &str, asked: Result<Promise, JsValue>) -> Result<JsValue, SourceError> {
        let answer = match asked {
            Ok(promise) => JsFuture::from(promise).await,
            Err(thrown) => Err(thrown),
        };
        answer.map_err(|value| self.fault(file, value))
    }
}

impl Source for Asking {
    fn describe(&self, file: &str) -> String {
        self.page.describe(file).unwrap_or_else(|_| file.to_owned())
    }

    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
        Box::pin(async move {
            let size = self.ask(file, self.page.size(file)).await?;
            if size.is_null() || size.is_undefined() {
                return Ok(None);
            }
            let bytes = size.as_f64().filter(|bytes| *bytes >= 0.0 && bytes.fract() == 0.0);
            let wrong = || self.fault(file, JsValue::from_str("its size is neither a number nor null"));
            Ok(Some(bytes.ok_or_else(wrong)? as u64))
        })
    }

    fn list(&self) -> Vec<String> {
        let files = self.page.files();
        let names = files.dyn_ref::<Array>().map(|files| files.iter().filter_map(|name| name.as_string()).collect());
        names.unwrap_or_default()
    }

    fn gguf(&self) -> Option<&str> {
        self.gguf.as_deref()
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
        Box::pin(async move {
            // Files are shorter than 2^53 bytes.
            let asked = self.page.read(file, range.start as f64, range.end as f64);
            let wrong = |what: &str| self.fault(file, JsValue::from_str(what));
            let bytes: Uint8Array =
                self.ask(file, asked).await?.dyn_into().map_err(|_| wrong("what was read is no Uint8Array"))?;
            let got = u64::from(bytes.length());
            if got != range.end - range.start {
                return Err(wrong(&format!("{got} bytes were read where {} were asked for", range.end - range.start)));
            }
            Ok(Cow::Owned(bytes.to_vec()))
        })
    }
}
