//! Choices of forms that outlive the program: one small text in a store, which the next load reads instead of measuring.
//!
//! ```text
//! [{"key":{"adapter":"llvmpipe (LLVM 19.1.7, 256 bits)","driver":"llvmpipe Mesa 25.0.7 (Vulkan)","shapes":"0f…"},"forms":"lanes,quads,…"}]
//! ```

use std::fmt;

use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use super::WebGpuBackend;
use super::forms::Form;
use super::gpu::{Gpu, Measure};
use super::key::FormKey;
use super::measure;
use crate::backend::{BackendInfo, FormsFrom, Result};
use crate::graph::Graph;

/// Choices that a store keeps; the one measured longest ago goes first.
const MOST: usize = 64;
/// Bytes of a store's text at most: of what is longer a store need read nothing.
pub const LONGEST_FORMS: u64 = 1 << 17;

/// A place of one small text that outlives the program, such as a file: [`WebGpuOptions::form_store`].
///
/// No load fails by it. What cannot be read is as good as nothing, and a text of anything else is replaced. Several programs
/// may share it, each of which writes the whole text: of two that write at once one may be lost, and is measured again.
///
/// [`WebGpuOptions::form_store`]: super::WebGpuOptions::form_store
pub trait FormStore: fmt::Debug {
    /// The text that was written last; `None` where there is none that can be read.
    fn read(&self) -> LocalBoxFuture<'_, Option<String>>;

    /// Puts a text in its place, whole or not at all. A store that cannot says so in its own way.
    fn write(&self, text: String) -> LocalBoxFuture<'_, ()>;
}

/// A measured choice.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: FormKey,
    /// Those that were not given, in the order of their kinds.
    forms: String,
}

/// Takes what the store has for the device and the model, and else measures and keeps that.
pub(super) async fn choose(backend: &mut WebGpuBackend, graph: &Graph) -> Result<FormsFrom> {
    let gpu = backend.gpu.clone();
    let Some(store) = &gpu.form_store else {
        measure::choose(backend, graph).await?;
        return Ok(FormsFrom::Measured);
    };
    let key = FormKey::new(backend, graph)?;
    let list = if gpu.measure.get() == Measure::Anew { vec![] } else { read(&**store).await };
    if let Some(forms) = list.iter().find(|kept| kept.key == key).and_then(|kept| fitting(&kept.forms, &gpu)) {
        gpu.forms.set(forms.into_iter().fold(gpu.forms.get(), |forms, form| forms.with(form)));
        return Ok(FormsFrom::Kept);
    }
    measure::choose(backend, graph).await?;
    let names: Vec<&str> = gpu.free_kinds().map(|kind| gpu.forms.get().of_kind(kind).name()).collect();
    // Others may have written while this measured.
    let list = read(&**store).await;
    store.write(with(list, Kept { key, forms: names.join(",") })).await;
    Ok(FormsFrom::Measured)
}

/// What a store has; nothing where its text is not of this kind.
async fn read(store: &dyn FormStore) -> Vec<Kept> {
    let text = store.read().await.unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// The text of a list with one more choice.
fn with(mut list: Vec<Kept>, kept: Kept) -> String {
    list.retain(|other| other.key != kept.key);
    list.push(kept);
    list.drain(..list.len().saturating_sub(MOST));
    serde_json::to_string(&list).unwrap_or_default()
}

/// The forms of these names, where they are one of each kind that was not given, and run on the device.
fn fitting(names: &str, gpu: &Gpu) -> Option<Vec<Form>> {
    let forms: Vec<Form> = names.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let of_each = forms.iter().map(|form| form.kind()).eq(gpu.free_kinds());
    (of_each && forms.iter().all(|form| form.runs_on(&gpu.info))).then_some(forms)
}

/// The forms that a store has for a device with its driver, for whatever models: names by commas, each list once.
pub async fn kept_forms(store: &dyn FormStore, device: &BackendInfo) -> Vec<String> {
    let mut found = vec![];
    for kept in read(store).await {
        if kept.key.is_of(device) && !found.contains(&kept.forms) {
            found.push(kept.forms);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;

    #[test]
    fn a_list_keeps_the_newest_of_each_key_and_so_many() {
        let key = |n: usize| FormKey { adapter: "a".into(), driver: "d".into(), shapes: Hash(n as u128) };
        let parse = |text: &str| serde_json::from_str::<Vec<Kept>>(text).expect("a list");
        let mut text = "[]".to_owned();
        for n in 0..=MOST {
            text = with(parse(&text), Kept { key: key(n), forms: "tile".into() });
        }
        let list = parse(&text);
        assert_eq!((list.len(), &list[0].key), (MOST, &key(1)));
        let list = parse(&with(list, Kept { key: key(1), forms: "lanes".into() }));
        assert_eq!((list.len(), &list[0].key), (MOST, &key(2)));
        assert_eq!((&list[MOST - 1].key, list[MOST - 1].forms.as_str()), (&key(1), "lanes"));
        assert!((text.len() as u64) < LONGEST_FORMS);
    }
}
