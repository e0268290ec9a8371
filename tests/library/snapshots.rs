//! Snapshots on the CPU: every family, every edge, every refusal.

use crate::support::snapshots::{go_on_elsewhere, write_on_elsewhere};
use crate::support::{Setting, changed, checkpoint, cpu, families, load, wait};
use selvedge::backend::Outputs;
use selvedge::checkpoint::WeightChoice;
use selvedge::runtime::{Engine, EngineError, EngineOptions};
use selvedge::state::{KvFormat, SnapshotError};

const HYMBA: &str = "hymba/caseA";

#[test]
fn every_family_goes_on_from_a_snapshot() {
    for case in families().chain([HYMBA]) {
        go_on_elsewhere(&cpu(), &cpu(), case, false);
    }
    go_on_elsewhere(&cpu(), &cpu(), HYMBA, true);
}

#[test]
fn a_text_is_written_on_from_a_snapshot() {
    for case in ["falcon_h1", "lfm2", "nemotron_h", "qwen3_5", HYMBA] {
        write_on_elsewhere(&cpu(), &cpu(), case);
    }
}

/// The last token read again after a restore, as llama.cpp's server did: the comparison of the other tests must see it
/// wherever there is a recurrent state, which the token enters a second time.
#[test]
fn a_token_that_is_read_twice_is_seen() {
    for case in ["falcon_h1", "granite_h", "lfm2", "nemotron_h", "qwen3_5", HYMBA] {
        let mut engine = load(&cpu(), &checkpoint(case), Setting { slots: 2, ..Setting::default() });
        let ids: Vec<u32> = (0..24).map(|i| (i * 7 + 3) % engine.model().vocabulary as u32).collect();
        let (slot, twice) = (engine.open().expect("a slot"), engine.open().expect("a slot"));
        engine.enqueue(slot, &ids[..20], Outputs::None).expect("a step");
        let snapshot = wait(engine.snapshot(slot, &ids[..20])).expect("a snapshot");
        engine.restore(twice, &snapshot).expect("the same engine");
        engine.enqueue(twice, &ids[19..20], Outputs::None).expect("a step");
        let mut logits = |slot| {
            let step = engine.enqueue(slot, &ids[20..], Outputs::Last).expect("a step");
            wait(engine.logits(&step)).expect("logits")
        };
        let (right, wrong) = (logits(slot), logits(twice));
        let difference = right.iter().zip(&wrong).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(difference > 1e-2, "{case}: {difference}");
    }
}

fn with(checkpoint: &selvedge::checkpoint::Checkpoint, change: impl FnOnce(&mut EngineOptions)) -> Engine {
    let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
    let mut options = EngineOptions::new(&mut progress);
    change(&mut options);
    wait(Engine::load(checkpoint, (cpu().open)(), options)).expect("the model loads")
}

#[test]
fn a_snapshot_of_another_model_is_refused_by_name() {
    let mut engine = with(&checkpoint(HYMBA), |_| {});
    let slot = engine.open().expect("a slot");
    engine.enqueue(slot, &[1, 2, 3], Outputs::None).expect("a step");
    let snapshot = wait(engine.snapshot(slot, &[1, 2, 3])).expect("a snapshot");
    let one_number = |name: &str, numbers: &mut [f32]| {
        if name.contains("embed") {
            numbers[0] += 1e-3;
        }
    };
    let others = [
        ("another architecture", with(&checkpoint("lfm2"), |_| {})),
        ("other weights", with(&changed(HYMBA, one_number), |_| {})),
        ("weights in another format", with(&checkpoint(HYMBA), |options| options.weights = WeightChoice::Q8)),
    ];
    for (what, mut other) in others {
        let slot = other.open().expect("a slot");
        let error = other.restore(slot, &snapshot).expect_err(what);
        let named = matches!(&error, EngineError::Snapshot(SnapshotError::Other { .. }));
        assert!(named && error.to_string().contains(what), "{error}");
        assert_eq!(other.length(slot).expect("an open slot"), 0, "nothing was changed");
    }
    // A shorter context than the text.
    let mut short = with(&checkpoint(HYMBA), |options| options.context = Some(2));
    let slot = short.open().expect("a slot");
    let error = short.restore(slot, &snapshot).expect_err("no room");
    assert!(matches!(error, EngineError::ContextFull { tokens: 3, context: 2, .. }), "{error}");
}

#[test]
fn keys_and_values_are_converted_and_that_is_said() {
    let formats = [KvFormat::F32, KvFormat::F16];
    for (from, to) in formats.into_iter().flat_map(|from| formats.map(|to| (from, to))) {
        let mut engines = [from, to].map(|format| with(&checkpoint(HYMBA), |options| options.kv_format = format));
        let slots = engines.each_mut().map(|engine| engine.open().expect("a slot"));
        let ids: Vec<u32> = (1..40).collect();
        engines[0].enqueue(slots[0], &ids, Outputs::None).expect("a step");
        let snapshot = wait(engines[0].snapshot(slots[0], &ids)).expect("a snapshot");
        let notice = engines[1].restore(slots[1], &snapshot).expect("the same model");
        let wanted = match (from, to) {
            (KvFormat::F32, KvFormat::F16) => Some("keys and values were kept in f32 and are now in f16, rounded"),
            (KvFormat::F16, KvFormat::F32) => Some("keys and values were kept in f16 and are now in f32"),
            _ => None,
        };
        assert_eq!(notice.as_deref(), wanted);
    }
}

#[test]
fn tokens_that_were_not_read_cannot_be_left_out() {
    let mut engine = with(&checkpoint("lfm2"), |_| {});
    let slot = engine.open().expect("a slot");
    engine.enqueue(slot, &[1, 2, 3], Outputs::None).expect("a step");
    let error = wait(engine.snapshot(slot, &[1, 2])).expect_err("a token is missing");
    assert!(matches!(error, EngineError::Snapshot(SnapshotError::Inconsistent(_))), "{error}");
    // An id that no token has.
    let mut snapshot = wait(engine.snapshot(slot, &[1, 2, 3])).expect("a snapshot");
    snapshot.tokens[1] = u32::MAX;
    let error = engine.restore(slot, &snapshot).expect_err("no token");
    assert!(matches!(error, EngineError::UnknownToken { id: u32::MAX, .. }), "{error}");
}
