//! What `inspect` promises a model takes, against what the driver's allocator says it took, in every format.
//!
//! One format by default, all of them with `SELVEDGE_LONG`.

use crate::support::{places, wait};
use selvedge::arch;
use selvedge::checkpoint::{LoadProgress, WeightChoice};
use selvedge::runtime::{Engine, EngineOptions, workspace_bytes};

#[test]
fn the_promise_is_kept() {
    let all = [WeightChoice::Q4, WeightChoice::Q4m, WeightChoice::Q8, WeightChoice::F16];
    let choices = if std::env::var_os("SELVEDGE_LONG").is_some() { &all[..] } else { &all[..1] };
    // Two layers of many: what is measured is large beside what drivers round, and quickly computed.
    let preset = arch::preset("falcon-h1-0.5b").expect("a preset");
    let mut preset: serde_json::Value = serde_json::from_str(&preset).expect("JSON");
    preset["num_hidden_layers"] = 2.into();
    let preset = preset.to_string();
    for place in places().iter().filter(|place| place.name != "cpu" && !place.slow) {
        for &weights in choices {
            let mut progress = |_: LoadProgress| {};
            let options = EngineOptions { weights, context: Some(2048), ..EngineOptions::new(&mut progress) };
            let mut engine = wait(Engine::load_random(&preset, (place.open)(), options)).expect("it fits");
            // The programs of a prompt and of decoding.
            let slot = engine.open().expect("a slot");
            let ids: Vec<u32> = (0..300).map(|i| i % 1000).collect();
            for ids in [&ids[..256], &ids[256..257]] {
                let step = engine.enqueue(slot, ids, selvedge::backend::Outputs::Last).expect("a step");
                wait(engine.sampled(&step)).expect("a token");
            }
            let took = engine.backend().device_bytes().expect("this driver tells") as f64;
            let (state, work) = (engine.layout().allocated(), workspace_bytes(&engine.model().graph));
            let promised = (engine.weight_bytes() + state + work) as f64;
            println!(
                "{weights:?}: promised {:.1} MB ({:.1} of weights, {:.1} of state, {:.1} of work), took {:.1} MB: {:.3}",
                promised / 1e6,
                engine.weight_bytes() as f64 / 1e6,
                state as f64 / 1e6,
                work as f64 / 1e6,
                took / 1e6,
                took / promised
            );
            assert!((took / promised - 1.0).abs() <= 0.05, "{weights:?}: {promised} bytes promised, {took} taken");
        }
    }
}
