//! A model whose files the page holds: only the ranges asked for are copied into WebAssembly's heap.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use futures::future::{LocalBoxFuture, ready};
use js_sys::{Map, Uint8Array};
use wasm_bindgen::{JsCast, JsError, JsValue};

use crate::checkpoint::{Source, SourceError};

/// Files by name.
pub(super) struct Files {
    files: BTreeMap<String, Uint8Array>,
}

impl Files {
    /// From a JavaScript `Map` of names to `Uint8Array`s.
    pub(super) fn new(map: &Map) -> Result<Self, JsError> {
        let mut files = BTreeMap::new();
        for entry in map.entries() {
            let entry = js_sys::Array::from(&entry.map_err(fault)?);
            let name = entry.get(0).as_string().ok_or_else(|| JsError::new("a file's name is not a string"))?;
            let bytes = entry.get(1).dyn_into().map_err(|_| JsError::new(&format!("{name}: not a Uint8Array")))?;
            files.insert(name, bytes);
        }
        Ok(Self { files })
    }
}

fn fault(value: JsValue) -> JsError {
    JsError::new(&format!("{value:?}"))
}

impl Source for Files {
    fn describe(&self, file: &str) -> String {
        if file.is_empty() { "the files given to Engine.load".into() } else { file.into() }
    }

    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
        let size = self.files.get(file).map(|bytes| u64::from(bytes.length()));
        Box::pin(ready(Ok(size)))
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
        let file_name = || self.describe(file);
        let read = match self.files.get(file) {
            None => Err(SourceError::Missing { file: file_name() }),
            Some(bytes) => {
                let size = u64::from(bytes.length());
                let ends = u32::try_from(range.start).ok().zip(u32::try_from(range.end).ok());
                match ends.filter(|(from, to)| from <= to && u64::from(*to) <= size) {
                    Some((from, to)) => Ok(Cow::Owned(bytes.subarray(from, to).to_vec())),
                    None => Err(SourceError::Range { file: file_name(), range, size }),
                }
            }
        };
        Box::pin(ready(read))
    }
}
