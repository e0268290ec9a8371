//! A store of states that the page keeps: the browser's private files.

use std::ops::Range;

use futures::future::LocalBoxFuture;
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::generate::prompt_cache::{StateStore, StoreError, StoredState};

#[wasm_bindgen]
extern "C" {
    /// `StateFolder` of `web/src/store/states.ts`.
    #[wasm_bindgen(typescript_type = "StateFolder")]
    #[derive(Debug)]
    pub type PageStates;

    #[wasm_bindgen(method, catch)]
    fn list(this: &PageStates) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(super) fn read(this: &PageStates, name: &str, start: f64, end: f64) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(super) fn write(this: &PageStates, name: &str, bytes: Uint8Array) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn remove(this: &PageStates, name: &str) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn touch(this: &PageStates, name: &str) -> Result<Promise, JsValue>;
}

/// The page's answer, or its fault in words.
pub(super) async fn answer(name: &str, asked: Result<Promise, JsValue>) -> Result<JsValue, StoreError> {
    let answer = match asked {
        Ok(promise) => JsFuture::from(promise).await,
        Err(thrown) => Err(thrown),
    };
    answer.map_err(|value| {
        let said = value.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
        fault(name, &said.unwrap_or_else(|| format!("{value:?}")))
    })
}

fn fault(name: &str, what: &str) -> StoreError {
    let name = if name.is_empty() { "the browser's store" } else { name };
    StoreError { name: name.into(), what: what.into() }
}

impl StateStore for PageStates {
    fn list(&mut self) -> LocalBoxFuture<'_, Result<Vec<StoredState>, StoreError>> {
        Box::pin(async move {
            // JSON: `[name, bytes]`, the one used longest ago first.
            let files = answer("", PageStates::list(self)).await?;
            let files: Option<Vec<(String, u64)>> = files.as_string().and_then(|json| serde_json::from_str(&json).ok());
            let files = files.ok_or_else(|| fault("", "its list is none"))?;
            Ok(files.into_iter().map(|(name, bytes)| StoredState { name, bytes }).collect())
        })
    }

    fn read<'a>(&'a mut self, name: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(async move {
            // Files are shorter than 2^53 bytes.
            let asked = PageStates::read(self, name, range.start as f64, range.end as f64);
            let bytes = answer(name, asked).await?.dyn_into::<Uint8Array>();
            Ok(bytes.map_err(|_| fault(name, "what was read is no Uint8Array"))?.to_vec())
        })
    }

    fn write<'a>(&'a mut self, name: &'a str, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        let asked = PageStates::write(self, name, Uint8Array::from(bytes));
        Box::pin(async move { answer(name, asked).await.map(drop) })
    }

    fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        let asked = PageStates::remove(self, name);
        Box::pin(async move { answer(name, asked).await.map(drop) })
    }

    fn touch<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, ()> {
        let asked = PageStates::touch(self, name);
        // The order in which files go is not worth an error.
        Box::pin(async move { drop(answer(name, asked).await) })
    }
}
