//! The CUDA backend on a machine without a card: unmodified host code and kernels, behind the stand-in driver
//! of `native-cuda/emulator`, which is built here (g++). Every op against the CPU references, and whole models against
//! the reference.

#[path = "../../native-cuda/emulator/child.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod child;

use crate::common::cases::unquantised;
use crate::common::{checks, compare, not_finite, starts_every_op};
use crate::support::snapshots::go_on_elsewhere;
use crate::support::{Golden, Place, Setting, Worst, checkpoint, families, load, tolerance, wait};
use child::on_emulator;
use selvedge::arch::HymbaWindow;
use selvedge::backend::cuda::CudaBackend;
use selvedge::backend::{Backend, BackendError, Outputs};
use selvedge::runtime::{Cancel, Engine, EngineOptions};

#[test]
fn every_op_agrees_with_its_reference() {
    on_emulator("cuda::every_op_agrees_with_its_reference", "random1", || {
        compare("cuda", 2.0, &mut CudaBackend::new(0).expect("the emulator"), &unquantised());
    });
}

#[test]
fn every_op_starts_a_kernel() {
    on_emulator("cuda::every_op_starts_a_kernel", "random1", || {
        starts_every_op("cuda", &mut CudaBackend::new(0).expect("the emulator"), &unquantised());
    });
}

#[test]
fn a_text_goes_on_in_another_slot() {
    on_emulator("cuda::a_text_goes_on_in_another_slot", "random1", || {
        let place = Place { name: "cuda", open, slack: 2.0, slow: true };
        crate::sampling::moves_in_the_middle(&place, "hymba/caseA");
    });
}

/// The first prompt of a golden: its logits in spans, then its decoded logits, one by one.
fn golden(case: &str, prefix: &str, decoded: (&str, &str), tolerance: f32) {
    let place = Place { name: "cuda", open, slack: 2.0, slow: true };
    let golden = Golden::open(case);
    // The tokens of Hymba's goldens are those of the official decode window; prompts do not see it.
    let setting = Setting { window: HymbaWindow::Generate, ..Setting::default() };
    let mut engine = load(&place, &checkpoint(case), setting);
    println!("{} ({})", engine.info().adapter, engine.info().driver);
    let ids = golden.ids(&format!("{prefix}input_ids"));
    let mut worst = Worst::new(format!("{case} on cuda"), tolerance);
    for chunk in [ids.len(), 7] {
        let slot = engine.open().expect("a slot");
        let mut logits = vec![];
        for ids in ids.chunks(chunk) {
            let step = engine.enqueue(slot, ids, Outputs::All).expect("a step");
            logits.extend(wait(engine.logits(&step)).expect("logits"));
        }
        worst.compare(&format!("spans of {chunk}"), &logits, &golden.get(&format!("{prefix}logits")).data);
        engine.close(slot).expect("an open slot");
    }
    // Greedy, fed on the device.
    let (tokens, logits) = decoded;
    let (tokens, logits) = (golden.ids(tokens), golden.get(logits));
    let slot = engine.open().expect("a slot");
    let read = wait(engine.prefill(slot, &ids, 64, &Cancel::default())).expect("a prompt");
    let first = wait(engine.sampled(&read.expect("nobody cancels"))).expect("a token");
    assert_eq!(first, tokens[..1]);
    let columns = engine.model().vocabulary;
    let rows = logits.shape[0];
    // Row 0 chooses the first token (Hymba's goldens), or comes after it (the other families').
    let skip = if rows == tokens.len() && prefix.is_empty() { 0 } else { 1 };
    for (step, pair) in tokens.windows(2).enumerate().take(12) {
        let running = engine.decode(slot).expect("a step");
        let wanted = &logits.data[(step + skip) * columns..][..columns];
        worst.compare("decoding", &wait(engine.logits(&running)).expect("logits"), wanted);
        assert_eq!(wait(engine.sampled(&running)).expect("a token"), pair[1..]);
    }
    worst.finish();
}

#[test]
fn hymba_agrees_with_the_reference() {
    on_emulator("cuda::hymba_agrees_with_the_reference", "forward", || {
        golden("hymba/caseA", "p0.", ("p0.gen_tokens", "p0.gen_logits_official_cache"), 1e-3);
    });
}

#[test]
fn falcon_h1_agrees_with_the_reference() {
    on_emulator("cuda::falcon_h1_agrees_with_the_reference", "reverse", || {
        for case in ["falcon_h1", "falcon_h1_rms"] {
            golden(case, "", ("decode_tokens", "decode_logits"), 2.0 * tolerance(case));
        }
    });
}

#[test]
fn every_family_agrees_with_the_reference() {
    on_emulator("cuda::every_family_agrees_with_the_reference", "random1", || {
        for case in families().filter(|case| !case.starts_with("falcon_h1")) {
            golden(case, "", ("decode_tokens", "decode_logits"), 2.0 * tolerance(case));
        }
    });
}

#[test]
fn without_a_driver_there_is_no_device_and_no_panic() {
    let Err(error) = CudaBackend::new(99) else { panic!("device 99") };
    assert!(matches!(error, BackendError::NoDevice { kind: "cuda", .. }), "{error}");
}

#[test]
fn on_the_emulator_there_is_one_device() {
    on_emulator("cuda::on_the_emulator_there_is_one_device", "forward", || {
        let devices = selvedge::backend::cuda::devices();
        println!("{devices:?}");
        assert_eq!(devices.len(), 1);
        assert!(devices[0].software);
    });
}

fn open() -> Box<dyn Backend> {
    Box::new(CudaBackend::new(0).expect("the emulator"))
}

#[test]
fn what_contradicts_an_earlier_call_is_refused() {
    on_emulator("cuda::what_contradicts_an_earlier_call_is_refused", "forward", || {
        checks::steps(open);
        checks::values(open);
        checks::weights(open);
        checks::slots(open);
        checks::memories(open);
        checks::tables(open);
    });
}

#[test]
fn what_is_not_finite_is_the_same_here() {
    on_emulator("cuda::what_is_not_finite_is_the_same_here", "random1", || {
        not_finite::logits(&mut *open());
        not_finite::keys_and_values(&mut *open());
        not_finite::experts(&mut *open());
        not_finite::norms(&mut *open());
    });
}

#[test]
fn decoding_creates_nothing() {
    on_emulator("cuda::decoding_creates_nothing", "random1", || {
        let place = Place { name: "cuda", open, slack: 2.0, slow: true };
        let mut engine = load(&place, &checkpoint("hymba/caseA"), Setting::default());
        let slot = engine.open().expect("a slot");
        let read = wait(engine.prefill(slot, &[5, 6, 7], 64, &Cancel::default())).expect("a prompt");
        let mut before = read.expect("nobody cancels");
        let mut counters = vec![];
        // Two steps under way at a time.
        for _ in 0..12 {
            let next = engine.decode(slot).expect("a step");
            wait(engine.sampled(&before)).expect("a token");
            before = next;
            counters.push(engine.counters());
        }
        let (early, late) = (counters[3], counters[11]);
        let steps = late.steps - early.steps;
        assert_eq!((steps, late.objects), (8, early.objects));
        assert_eq!(late.bytes_read - early.bytes_read, 4 * steps, "a token is all that comes back");
        let layers = engine.model().layers as u64;
        println!("{} kernels a token, {layers} layers", (late.dispatches - early.dispatches) / steps);
    });
}

#[test]
fn speculation_is_refused() {
    on_emulator("cuda::speculation_is_refused", "forward", || {
        let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
        let options = EngineOptions { speculate: 1, ..EngineOptions::new(&mut progress) };
        let loaded = wait(Engine::load(&checkpoint("draft_qwen3_5"), open(), options));
        let error = loaded.err().expect("an error").to_string();
        assert!(error.contains("cuda") && error.contains("speculation yet"), "{error}");
    });
}

#[test]
fn a_snapshot_goes_on_in_another_backend() {
    on_emulator("cuda::a_snapshot_goes_on_in_another_backend", "random1", || {
        let place = Place { name: "cuda", open, slack: 2.0, slow: true };
        let cpu = crate::support::cpu();
        go_on_elsewhere(&place, &cpu, "hymba/caseA", false);
        go_on_elsewhere(&cpu, &place, "qwen3_5_gva", false);
    });
}
