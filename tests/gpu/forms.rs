//! Forms of kernels: those that are given, those that are measured, and those that a store has from an earlier load.

use std::cell::RefCell;
use std::rc::Rc;

use futures::future::{LocalBoxFuture, ready};

use crate::support::{adapter_or_skipped, checkpoint, wait, webgpu_or_skipped};
use selvedge::backend::webgpu::{self, Form, FormKind, FormStore, Measure, WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, FormsFrom};
use selvedge::runtime::{Engine, EngineOptions};
use serde_json::Value;

const MODEL: &str = "hymba/caseA";

/// A store in memory.
#[derive(Debug, Default)]
struct Text(RefCell<Option<String>>);

impl FormStore for Text {
    fn read(&self) -> LocalBoxFuture<'_, Option<String>> {
        Box::pin(ready(self.0.borrow().clone()))
    }

    fn write(&self, text: String) -> LocalBoxFuture<'_, ()> {
        *self.0.borrow_mut() = Some(text);
        Box::pin(ready(()))
    }
}

impl Text {
    fn set(&self, text: &str) {
        *self.0.borrow_mut() = Some(text.to_owned());
    }

    fn entries(&self) -> Vec<Value> {
        serde_json::from_str(self.0.borrow().as_deref().unwrap_or("[]")).expect("a list")
    }

    /// The forms of the newest entry.
    fn newest(&self) -> String {
        let entries = self.entries();
        entries.last().expect("an entry")["forms"].as_str().expect("names").to_owned()
    }

    /// Loads a model; the forms that it runs, where these are from, and how many were timed.
    fn load(self: &Rc<Self>, model: &str, context: usize, options: WebGpuOptions) -> (String, FormsFrom, u64) {
        let options = WebGpuOptions { self_test: false, form_store: Some(self.clone()), ..options };
        let backend = Box::new(wait(WebGpuBackend::new(&options)).expect("the adapter opens"));
        let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
        let settings = EngineOptions { context: Some(context), ..EngineOptions::new(&mut progress) };
        let engine = wait(Engine::load(&checkpoint(model), backend, settings)).expect("the model loads");
        let info = engine.info();
        let (forms, from) = (info.forms.clone().expect("forms"), info.forms_from.expect("a reason"));
        println!("{model}, {context}: {forms}, {}", from.name());
        (forms, from, engine.counters().forms_timed)
    }
}

/// The driver that the tests of this file run on: on one so slow that measuring takes minutes they do not.
fn fast_adapter() -> bool {
    webgpu_or_skipped().is_some_and(|place| !place.slow)
}

#[test]
fn the_same_shapes_are_measured_once() {
    if !fast_adapter() {
        return;
    }
    let (store, usual) = (Rc::new(Text::default()), WebGpuOptions::default);
    let (forms, from, timed) = store.load(MODEL, 256, usual());
    assert!(from == FormsFrom::Measured && timed > 0, "{timed} forms were timed");
    let list: Vec<Form> = forms.split(',').map(|name| name.parse().expect("a form")).collect();
    assert_eq!(list.iter().map(|form| form.kind()).collect::<Vec<_>>(), FormKind::ALL);
    // Whatever the store says is taken, of the fastest or not: a load that measured could not tell.
    let [first, other] = FormKind::Norms.forms().map(Form::name);
    let turned = forms.replace(first, "X").replace(other, first).replace('X', other);
    let text = serde_json::to_string(&store.entries()).expect("text").replace(&forms, &turned);
    store.set(&text);
    assert_eq!(store.load(MODEL, 256, usual()), (turned.clone(), FormsFrom::Kept, 0));
    assert_eq!(store.0.borrow().as_ref(), Some(&text), "a load that measures nothing writes nothing");

    // Other shapes are others.
    let measured = |(_, from, timed): (String, FormsFrom, u64)| from == FormsFrom::Measured && timed > 0;
    assert!(measured(store.load(MODEL, 320, usual())));
    assert!(measured(store.load("llama", 256, usual())));
    assert!(measured(store.load(MODEL, 256, WebGpuOptions { segment: Some(1 << 20), ..usual() })));
    let named = |driver: &str| WebGpuOptions { page_names: Some(["adapter".into(), driver.into()]), ..usual() };
    assert!(measured(store.load(MODEL, 256, named("driver 1"))));
    assert!(measured(store.load(MODEL, 256, named("driver 2"))));
    assert_eq!(store.entries().len(), 6);
    assert_eq!(store.load(MODEL, 256, named("driver 1")).1, FormsFrom::Kept);

    // It is told by the device alone.
    let adapters = wait(webgpu::adapters());
    assert!(wait(webgpu::kept_forms(&*store, &adapters[0])).contains(&turned));
    let elsewhere = selvedge::backend::BackendInfo { driver: "another".into(), ..adapters[0].clone() };
    assert!(wait(webgpu::kept_forms(&*store, &elsewhere)).is_empty());

    // Who asks for it measures again, and the others stay.
    assert!(measured(store.load(MODEL, 256, WebGpuOptions { measure: Measure::Anew, ..usual() })));
    assert_eq!(store.entries().len(), 6);
    let never = store.load(MODEL, 256, WebGpuOptions { measure: Measure::Never, ..usual() });
    assert_eq!((never.1, never.2), (FormsFrom::Unmeasured, 0));
}

#[test]
fn what_was_given_is_not_kept() {
    if !fast_adapter() {
        return;
    }
    let store = Rc::new(Text::default());
    let given = |forms: &[Form]| WebGpuOptions { forms: forms.to_vec(), ..Default::default() };
    let all = FormKind::ALL.map(|kind| kind.forms()[0]);
    assert_eq!(store.load(MODEL, 256, given(&all)), (all.map(Form::name).join(","), FormsFrom::Given, 0));
    assert!(store.entries().is_empty());
    // All but the first are given: one kind is measured, and kept under a key of its own.
    let (forms, from, _) = store.load(MODEL, 256, given(&all[1..]));
    assert_eq!(from, FormsFrom::Measured);
    assert!(forms.starts_with(&store.newest()) && !store.newest().contains(','), "{}", store.newest());
    assert_eq!(store.load(MODEL, 256, given(&all[1..])), (forms, FormsFrom::Kept, 0));
    assert_eq!(store.load(MODEL, 256, given(&[])).1, FormsFrom::Measured);
    assert_eq!(store.entries().len(), 2);
}

#[test]
fn what_a_store_has_is_not_believed() {
    if !fast_adapter() {
        return;
    }
    let store = Rc::new(Text::default());
    let load = || store.load(MODEL, 256, WebGpuOptions { subgroups: false, ..Default::default() });
    let (forms, ..) = load();
    assert!(forms.starts_with("tile,rows,query,head,heads,"), "{forms}");
    let text = store.0.borrow().clone().expect("a text");
    let changed = |other: &str| text.replace(&forms, other);
    let damaged = [
        String::new(),
        text[..text.len() - 3].to_owned(),
        "{\"forms\": 5}".to_owned(),
        text.replace("\"shapes\"", "\"Shapes\""),
        // None of that name; one that takes subgroups; a kind twice; one too few.
        changed(&forms.replace("rows", "columns of rows")),
        changed(&forms.replace("rows", "quads")),
        changed(&forms.replace("rows", "tile")),
        changed("tile,rows,query,head,heads"),
    ];
    for text in &damaged {
        assert_ne!(store.0.borrow().as_ref(), Some(text));
        store.set(text);
        let (_, from, timed) = load();
        assert!(from == FormsFrom::Measured && timed > 0, "{text}");
        assert_eq!(store.entries().len(), 1, "{text}");
        assert!(store.newest().starts_with("tile,rows,query,head,heads,"), "{text}");
    }
    assert_eq!(load().1, FormsFrom::Kept);
}

#[test]
fn forms_may_be_chosen_if_the_device_has_them() {
    if !adapter_or_skipped() {
        return;
    }
    for form in Form::all() {
        let quiet = WebGpuOptions { self_test: false, forms: vec![form], ..Default::default() };
        let backend = wait(WebGpuBackend::new(&quiet)).expect("the adapter opens");
        assert!(backend.info().forms.as_ref().is_some_and(|forms| forms.split(',').any(|name| name == form.name())));
        let without = wait(WebGpuBackend::new(&WebGpuOptions { subgroups: false, ..quiet }));
        match (without, form.least_subgroup()) {
            (Ok(backend), 0) => {
                let last = if form == Form::Apart { "apart" } else { "within" };
                assert_eq!(backend.info().forms, Some(format!("tile,rows,query,head,heads,{last}")));
            }
            (Err(error), 1..) => assert!(error.to_string().contains(form.name()), "{error}"),
            (other, least) => panic!("{form} takes {least} lanes: {}", other.is_ok()),
        }
    }
}
