//! A store of measured forms that the page keeps: a file beside those of states.

use futures::future::LocalBoxFuture;
use js_sys::{Reflect, Uint8Array, global};
use wasm_bindgen::JsCast;

use super::states::{PageStates, answer};
use crate::backend::webgpu::{FormStore, LONGEST_FORMS};

const FILE: &str = "forms.json";

/// A folder with the file.
#[derive(Debug)]
pub(super) struct PageForms(pub PageStates);

impl FormStore for PageForms {
    fn read(&self) -> LocalBoxFuture<'_, Option<String>> {
        Box::pin(async move {
            let bytes = answer(FILE, self.0.read(FILE, 0.0, LONGEST_FORMS as f64)).await.ok()?;
            String::from_utf8(bytes.dyn_into::<Uint8Array>().ok()?.to_vec()).ok()
        })
    }

    fn write(&self, text: String) -> LocalBoxFuture<'_, ()> {
        // A page that has no room measures at each load, and has more to tell of that than this.
        Box::pin(async move { drop(answer(FILE, self.0.write(FILE, Uint8Array::from(text.as_bytes()))).await) })
    }
}

/// The browser and its version, which take the part of a driver; empty where it does not tell.
pub(super) fn browser() -> String {
    let navigator = Reflect::get(&global(), &"navigator".into());
    let agent = navigator.and_then(|navigator| Reflect::get(&navigator, &"userAgent".into()));
    agent.ok().and_then(|agent| agent.as_string()).unwrap_or_default()
}
