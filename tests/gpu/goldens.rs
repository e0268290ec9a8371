//! Whole models against the reference's own numbers, on every backend of this machine.
//! `tests/goldens/README.md` tells what the numbers are.

use std::path::Path;

use crate::support::{
    ATTENTION, CONVOLUTIONS, EXPERTS, GATED_DELTA, Golden, MAMBA, Place, REWARDS, Setting, Tensor, Worst, checkpoint,
    compare_scores, families, folder, further_goldens, load, places, read, skipped, tolerance, wait,
};
use selvedge::arch::{self, ArchError, ArchOptions, Config, HymbaWindow};
use selvedge::backend::webgpu::{WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, Outputs, Step, Tokens};
use selvedge::checkpoint::{Checkpoint, Memory};
use selvedge::generate::{GenerateOptions, Generation};
use selvedge::graph::StateKind;
use selvedge::runtime::{Cancel, Engine, EngineError, Purpose};
use selvedge::state::SlotId;

/// Largest difference of a logit on the CPU.
const LOGITS: f32 = 5e-4;
/// Of everything inside a model.
const INSIDE: f32 = 2e-4;

const HYMBA: [&str; 3] = ["hymba/caseA", "hymba/caseB", "hymba/caseC"];

/// Reads a prompt in a new slot.
fn read_anew(engine: &mut Engine, ids: &[u32], chunk: usize) -> (SlotId, Vec<f32>) {
    let slot = engine.open().expect("a slot");
    let logits = read(engine, slot, ids, chunk);
    (slot, logits)
}

/// The prompts of a case to try in a place, and the steps to decode after each. Prompts are no other work for a device:
/// all of them are for the CPU.
fn prompts(place: &Place, golden: &Golden) -> (Vec<usize>, usize) {
    let count = golden.names("p").filter(|name| name.ends_with(".input_ids")).count();
    let step = if place.name == "cpu" { 1 } else { 3 };
    ((0..count).step_by(step).collect(), if place.slow { 12 } else { usize::MAX })
}

#[test]
fn hymba_as_trained() {
    for place in places() {
        for case in HYMBA {
            let golden = Golden::open(case);
            let mut engine = load(&place, &checkpoint(case), Setting::default());
            let columns = engine.model().vocabulary;
            let (prompts, steps) = prompts(&place, &golden);

            // On a GPU, decoding has the steps of one row.
            let spans: &[usize] = if place.name == "cpu" { &[1, 7, 64, 1024] } else { &[7, 64, 1024] };
            for &chunk in spans {
                let what = format!("{case} on {}, spans of {chunk}", place.name);
                let mut worst = Worst::new(what, LOGITS * place.slack);
                for p in &prompts {
                    let (slot, logits) = read_anew(&mut engine, &golden.ids(&format!("p{p}.input_ids")), chunk);
                    worst.compare(&format!("p{p}"), &logits, &golden.get(&format!("p{p}.logits")).data);
                    engine.close(slot).expect("an open slot");
                }
                worst.finish();
            }

            let mut worst = Worst::new(format!("{case} on {}, decoding", place.name), LOGITS * place.slack);
            for p in &prompts {
                let tokens = golden.ids(&format!("p{p}.gen_tokens"));
                let steps = steps.min(tokens.len() - 1);
                let (slot, _) = read_anew(&mut engine, &golden.ids(&format!("p{p}.input_ids")), 64);
                let logits = read(&mut engine, slot, &tokens[..steps], 1);
                let wanted = golden.get(&format!("p{p}.gen_logits_fixed_cache"));
                worst.compare(&format!("p{p}"), &logits, &wanted.data[columns..][..steps * columns]);
                engine.close(slot).expect("an open slot");
            }
            worst.finish();
        }
    }
}

/// A device with exactly what WebGPU promises everywhere.
fn with_defaults(subgroups: bool) -> Box<dyn Backend> {
    let options = WebGpuOptions { default_limits: true, subgroups, self_test: false, ..Default::default() };
    Box::new(wait(WebGpuBackend::new(&options)).expect("the adapter opens"))
}

/// Hymba on a device with what WebGPU promises everywhere, with subgroups and without.
pub fn hymba_with_defaults(place: &Place) {
    let bare: [fn() -> Box<dyn Backend>; 2] = [|| with_defaults(true), || with_defaults(false)];
    for (open, what) in bare.into_iter().zip(["default limits", "default limits, no subgroups"]) {
        let place = Place { open, ..*place };
        let case = HYMBA[0];
        let golden = Golden::open(case);
        let setting = Setting { window: HymbaWindow::Generate, ..Setting::default() };
        let mut engine = load(&place, &checkpoint(case), setting);
        assert_eq!(engine.info().max_binding, 128 << 20);
        let mut worst = Worst::new(format!("{case}, {what}"), LOGITS * place.slack);
        let (slot, logits) = read_anew(&mut engine, &golden.ids("p0.input_ids"), 64);
        worst.compare("p0", &logits, &golden.get("p0.logits").data);
        engine.close(slot).expect("an open slot");
        let slot = engine.open().expect("a slot");
        let tokens = golden.ids("p0.gen_tokens");
        let (got, rows) = greedy(&mut engine, slot, &golden.ids("p0.input_ids"), 12.min(tokens.len()));
        assert_eq!(got, tokens[..got.len()], "{what}");
        worst.compare("p0, decoding", &rows, &golden.get("p0.gen_logits_official_cache").data[..rows.len()]);
        worst.finish();
    }
}

/// Greedy tokens, each chosen on the device and fed there, and the logits each was chosen from.
fn greedy(engine: &mut Engine, slot: SlotId, prompt: &[u32], count: usize) -> (Vec<u32>, Vec<f32>) {
    let step = wait(engine.prefill(slot, prompt, 64, &Cancel::default())).expect("a prompt");
    let mut step = step.expect("nobody cancels");
    let (mut tokens, mut logits) = (vec![], vec![]);
    loop {
        logits.extend(wait(engine.logits(&step)).expect("logits"));
        tokens.extend(wait(engine.sampled(&step)).expect("a token"));
        if tokens.len() == count {
            return (tokens, logits);
        }
        step = engine.decode(slot).expect("a step");
    }
}

#[test]
fn hymba_as_the_official_generate() {
    for place in places() {
        for case in HYMBA {
            let golden = Golden::open(case);
            let setting = Setting { window: HymbaWindow::Generate, ..Setting::default() };
            let mut engine = load(&place, &checkpoint(case), setting);
            let (prompts, steps) = prompts(&place, &golden);
            let mut logits = Worst::new(format!("{case} on {}, generating", place.name), LOGITS * place.slack);
            let mut caches = Worst::new(format!("caches of {case} on {}", place.name), INSIDE * place.slack);
            for p in prompts {
                let slot = engine.open().expect("a slot");
                let tokens = golden.ids(&format!("p{p}.gen_tokens"));
                let count = steps.min(tokens.len());
                let (got, rows) = greedy(&mut engine, slot, &golden.ids(&format!("p{p}.input_ids")), count);
                assert_eq!(got, tokens[..count], "{case} p{p} on {}", place.name);
                // Where both windows give the same, the golden holds one of them.
                let official = golden.find(&format!("p{p}.gen_logits_official_cache"));
                let wanted = official.unwrap_or_else(|| golden.get(&format!("p{p}.gen_logits_fixed_cache")));
                logits.compare(&format!("p{p}"), &rows, &wanted.data[..rows.len()]);
                // All tokens but the last were fed.
                if count == tokens.len() {
                    compare_cache(&mut caches, &mut engine, slot, &golden, &format!("p{p}.cache_end."));
                }
                engine.close(slot).expect("an open slot");
            }
            logits.finish();

            let (slot, _) = read_anew(&mut engine, &golden.ids("p0.input_ids"), 7);
            compare_cache(&mut caches, &mut engine, slot, &golden, "p0.cache_prefill.");
            if case != HYMBA[1] {
                caches.finish();
            }
        }
    }
}

#[test]
fn hymba_inside() {
    for place in places() {
        // Where steps are slow, loading is slower still.
        for case in if place.slow { &HYMBA[..1] } else { &HYMBA[..] } {
            let golden = Golden::open(case);
            // The value, the tensor, and the factor between them: the mean's half lies in our fusion norms.
            let mut pairs: Vec<(String, String, f32)> = vec![];
            pairs.extend(golden.names("p0.hidden.").map(|i| (format!("hidden.{i}"), format!("p0.hidden.{i}"), 1.0)));
            pairs.extend(golden.names("p0.probe.").map(|name| {
                let fusion = name.ends_with(".attn_norm") || name.ends_with(".ssm_norm");
                (format!("layers.{name}"), format!("p0.probe.{name}"), if fusion { 2.0 } else { 1.0 })
            }));
            let keep = pairs.iter().map(|(value, ..)| value.clone()).collect();
            let mut engine = load(&place, &checkpoint(case), Setting { keep, ..Setting::default() });
            let meta = engine.model().prefix_tokens.len();
            let slot = engine.open().expect("a slot");
            let step = engine.enqueue(slot, &golden.ids("p0.input_ids"), Outputs::Last).expect("a step");
            let mut worst = Worst::new(format!("inside {case} on {}", place.name), INSIDE * place.slack);
            for (value, tensor, factor) in &pairs {
                let wanted = golden.get(tensor);
                let got = wait(engine.value(&step, value)).expect("a kept value");
                let got: Vec<f32> = got.iter().map(|x| x * factor).collect();
                worst.compare(value, &got, &wanted.data[meta * wanted.shape[1]..]);
            }
            worst.finish();
        }
    }
}

/// Holds a slot's memory against the reference's caches `{prefix}{layer}.{k, v, conv, ssm}`, if it has them: keys
/// and values `[heads, rows, width]`, conv `[channels, d_conv]` with one column more than is needed, newest last.
fn compare_cache(worst: &mut Worst, engine: &mut Engine, slot: SlotId, golden: &Golden, prefix: &str) {
    if golden.names(prefix).next().is_none() {
        return;
    }
    let state = wait(engine.read_state(slot)).expect("a state");
    let mut seen = 0;
    for tensor in &state.tensors {
        let Some((layer, kind)) = tensor.name.strip_prefix("layers.").and_then(|name| name.split_once('.')) else {
            panic!("{} is no layer's", tensor.name)
        };
        let kind = kind.strip_prefix("kv.").unwrap_or(kind);
        let wanted = golden.get(&format!("{prefix}{layer}.{kind}")).clone();
        let wanted = match kind {
            "ssm" => wanted.squeezed(tensor.shape.len()).data,
            "conv" => {
                let wanted = wanted.squeezed(2);
                let (columns, channels) = (tensor.shape[0], tensor.shape[1]);
                let newest = wanted.shape[1] - columns;
                let number = |i| wanted.at(&[i % channels, newest + i / channels]);
                (0..columns * channels).map(number).collect()
            }
            _ => {
                let spec =
                    engine.model().graph.states.iter().find(|s| tensor.name.starts_with(&format!("{}.", s.name)));
                let Some(StateKind::Kv(spec)) = spec.map(|s| &s.kind) else { panic!("{} is no KV state", tensor.name) };
                let latest = engine.layout().kv(spec).oldest(state.position) as u32..state.position as u32;
                assert_eq!(tensor.positions, (0..spec.pinned as u32).chain(latest).collect::<Vec<_>>());
                rows(wanted.squeezed(3), &tensor.positions, state.position, spec.pinned)
            }
        };
        worst.compare(&tensor.name, &tensor.data, &wanted);
        seen += 1;
    }
    assert_eq!(seen, golden.names(prefix).count(), "every cache of the reference has its counterpart");
}

/// The reference's rows at the given positions, `[positions, heads, width]`: it holds the pinned ones and the
/// latest others. It may hold more than we do, never less.
fn rows(wanted: Tensor, positions: &[u32], end: usize, pinned: usize) -> Vec<f32> {
    let &[heads, held, width] = wanted.shape.as_slice() else { panic!("keys and values have three dimensions") };
    assert!(positions.len() <= held);
    let mut numbers = vec![];
    for &position in positions {
        let position = position as usize;
        let row = if position < pinned { position } else { held - (end - position) };
        for head in 0..heads {
            numbers.extend((0..width).map(|i| wanted.at(&[head, row, i])));
        }
    }
    numbers
}

/// One span of each slot in one step; the logits of each.
fn run_together(engine: &mut Engine, spans: &[(SlotId, &[u32])]) -> Vec<Vec<f32>> {
    let span = |&(slot, ids): &(SlotId, &[u32])| engine.span(slot, Tokens::Given(ids.to_vec()), Outputs::All);
    let step = Step { spans: spans.iter().map(span).collect::<Result<_, _>>().expect("spans") };
    let running = engine.run(&step).expect("a step");
    let mut logits = wait(engine.logits(&running)).expect("logits");
    let columns = engine.model().vocabulary;
    let parts = spans.iter().map(|(_, ids)| logits.drain(..ids.len() * columns).collect()).collect();
    assert!(logits.is_empty());
    parts
}

#[test]
fn sequences_in_one_step_do_not_touch_each_other() {
    let case = "hymba/caseC";
    let golden = Golden::open(case);
    for place in places() {
        let mut engine = load(&place, &checkpoint(case), Setting { slots: 3, ..Setting::default() });
        let columns = engine.model().vocabulary;
        let mut worst = Worst::new(format!("ragged steps of {case} on {}", place.name), LOGITS * place.slack);
        let (short, long) = (golden.ids("p3.input_ids"), golden.ids("p7.input_ids"));
        let tokens = golden.ids("p3.gen_tokens");
        let [a, b] = [(); 2].map(|()| engine.open().expect("a slot"));

        // A short prompt and the beginning of a long one.
        let logits = run_together(&mut engine, &[(a, &short), (b, &long[..9])]);
        worst.compare("a prompt", &logits[0], &golden.get("p3.logits").data);
        worst.compare("half a prompt", &logits[1], &golden.get("p7.logits").data[..9 * columns]);

        // The first decodes while the second goes on, and a third begins in front of both.
        let c = engine.open().expect("a slot");
        let third = golden.ids("p2.input_ids");
        let logits = run_together(&mut engine, &[(c, &third), (a, &tokens[..1]), (b, &long[9..])]);
        worst.compare("another prompt", &logits[0], &golden.get("p2.logits").data);
        worst.compare("a token", &logits[1], &golden.get("p3.gen_logits_fixed_cache").data[columns..2 * columns]);
        worst.compare("the rest", &logits[2], &golden.get("p7.logits").data[9 * columns..]);

        // All decode; then one ends and its slot serves another text.
        let next = |p: usize, at: usize| golden.ids(&format!("p{p}.gen_tokens"))[at];
        let (x, y, z) = ([next(7, 0)], [next(2, 0)], [next(3, 1)]);
        let logits = run_together(&mut engine, &[(b, &x), (c, &y), (a, &z)]);
        for (got, p, row) in [(&logits[0], 7, 1), (&logits[1], 2, 1), (&logits[2], 3, 2)] {
            let wanted = golden.get(&format!("p{p}.gen_logits_fixed_cache"));
            worst.compare("tokens together", got, &wanted.data[row * columns..][..columns]);
        }
        engine.close(a).expect("an open slot");
        let (again, logits) = read_anew(&mut engine, &short, usize::MAX);
        assert_eq!(again, a);
        worst.compare("a slot used again", &logits, &golden.get("p3.logits").data);
        worst.finish();
    }
}

/// The checkpoint of a golden with one of its configs.
fn with_config(folder: &Path, config: &str) -> Checkpoint {
    let read = |file: &str| std::fs::read(folder.join(file)).expect("a file of the golden");
    let files = Memory::new().with("config.json", read(config)).with("model.safetensors", read("model.safetensors"));
    wait(Checkpoint::open(files)).expect("a checkpoint")
}

#[test]
fn every_family_has_a_golden() {
    let config = Config::parse(r#"{"model_type": "none"}"#).expect("a config");
    let Err(ArchError::UnknownModel { supported, .. }) = arch::build(&config, None, &ArchOptions::default()) else {
        panic!("`none` is no family")
    };
    let kind = |case: &str| checkpoint(case).config().to_owned();
    let kinds: Vec<String> = families()
        .chain(HYMBA)
        .map(|case| Config::parse(&kind(case)).expect("a config").string("model_type").expect("a name").to_owned())
        .collect();
    for family in supported.split(", ") {
        assert!(kinds.iter().any(|kind| kind == family), "`{family}` has no golden");
    }
}

/// The golden of a model that gives scores.
fn reward(place: &Place, folder: &Path, config: &str) {
    let golden = Golden::read(&folder.join("golden.safetensors"));
    let case = folder.file_name().expect("a name").to_string_lossy();
    let setting = Setting { purpose: Purpose::Score, ..Setting::default() };
    let mut engine = load(place, &with_config(folder, config), setting);
    let mut worst = Worst::new(format!("{case} on {}, {config}", place.name), tolerance(&case) * place.slack);
    assert_eq!(compare_scores(&mut worst, place.name, &mut engine, &golden), 3);
    worst.finish();
    // It has no words to go on with.
    let slot = engine.open().expect("a slot");
    let refused = wait(Generation::start(&mut engine, slot, &[5], &GenerateOptions::default()));
    assert!(matches!(refused, Err(EngineError::NotCausalLm(_))), "{:?}", refused.err());
}

/// A golden of each kind of block but Hymba's: attention beside a Mamba-2 scan, short convolutions, experts, the gated
/// delta rule.
const EVERY_KIND: [&str; 4] = ["falcon_h1_rms", "lfm2_bias", "nemotron_h_moe", "qwen3_5_gva"];

/// Holds a place to a golden of each kind of block.
pub fn every_kind_of_block(place: &Place) {
    for case in EVERY_KIND {
        family(place, &folder(case), "config.json");
    }
}

/// Some goldens on every backend, in both dialects of their configs on the CPU: the dialect has nothing to do with
/// the device.
fn on_every_backend(cases: &[&str], hold: fn(&Place, &Path, &str)) {
    for place in places() {
        for case in cases {
            if place.name == "webgpu" && EVERY_KIND.contains(case) {
                // `every_driver` has it.
                continue;
            }
            let dialects = if place.name == "cpu" { &["config.json", "config.v5.json"][..] } else { &["config.json"] };
            for config in dialects {
                hold(&place, &folder(case), config);
            }
        }
    }
}

#[test]
fn reward_models_give_their_scores() {
    on_every_backend(&REWARDS, reward);
}

#[test]
fn attention_agrees_with_the_reference() {
    on_every_backend(&ATTENTION, family);
}

#[test]
fn short_convolutions_agree_with_the_reference() {
    on_every_backend(&CONVOLUTIONS, family);
}

#[test]
fn mamba_2_agrees_with_the_reference() {
    on_every_backend(&MAMBA, family);
}

#[test]
fn experts_agree_with_the_reference() {
    on_every_backend(&EXPERTS, family);
}

#[test]
fn the_gated_delta_rule_agrees_with_the_reference() {
    on_every_backend(&GATED_DELTA, family);
}

#[test]
fn further_goldens_agree_with_the_reference() {
    let Some(folders) = further_goldens() else {
        skipped("further goldens: SELVEDGE_GOLDENS names no folder");
        return;
    };
    let mut compared = 0;
    // The kernels are those of this repository's goldens: elsewhere than on the CPU they run in the long tier.
    let long = std::env::var_os("SELVEDGE_LONG").is_some();
    if !long {
        println!("skipped in part: further goldens on WebGPU: left to --all");
    }
    for place in places().iter().filter(|place| place.name == "cpu" || (long && !place.slow)) {
        for folder in &folders {
            let golden = Golden::read(&folder.join("golden.safetensors"));
            let hold = match () {
                () if golden.find("decode_tokens").is_some() => family,
                () if golden.find("scores.0").is_some() => reward,
                // Made for other tests.
                () => continue,
            };
            for config in ["config.json", "config.v5.json"] {
                if place.name == "cpu" || config == "config.json" {
                    hold(place, folder, config);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 0, "{folders:?} hold no golden");
}

fn family(place: &Place, folder: &Path, config: &str) {
    let golden = &Golden::read(&folder.join("golden.safetensors"));
    let case = folder.file_name().expect("a name").to_string_lossy();
    // Of a bf16 case: what the reference computes in f32.
    let f32s = if golden.find("f32.logits").is_some() { "f32." } else { "" };
    let wanted = |name: &str| golden.get(&format!("{f32s}{name}"));
    let hidden = format!("{f32s}hidden.");
    let names: Vec<&str> = golden.names(&hidden).collect();
    let value = |name: &str| if name == "final_norm" { name.to_owned() } else { format!("hidden.{name}") };
    let (ids, tokens) = (golden.ids("input_ids"), golden.ids("decode_tokens"));
    let what = format!("{case} on {}, {config}", place.name);
    let mut worst = Worst::new(what.clone(), tolerance(&case) * place.slack);

    // Everything inside, where it was kept. Values that are kept are not fused away: other kernels, to be compiled.
    if !names.is_empty() && !place.slow {
        let keep = names.iter().map(|name| value(name)).collect();
        let mut engine = load(place, &with_config(folder, config), Setting { keep, ..Setting::default() });
        let slot = engine.open().expect("a slot");
        let step = engine.enqueue(slot, &ids, Outputs::All).expect("a step");
        for name in names {
            let got = wait(engine.value(&step, &value(name))).expect("a kept value");
            let wanted = &wanted(&format!("hidden.{name}")).data;
            // The stream may be large: what counts is the error beside it.
            let largest = wanted.iter().fold(1f32, |m, x| m.max(x.abs()));
            let scaled = |data: &[f32]| data.iter().map(|x| x / largest).collect::<Vec<f32>>();
            worst.compare(name, &scaled(&got), &scaled(wanted));
        }
    }

    // At once and in spans; then decoding, and what that leaves behind.
    let mut engine = load(place, &with_config(folder, config), Setting { slots: 2, ..Setting::default() });
    // On a GPU, decoding has the steps of one row.
    let spans: &[usize] = match place {
        Place { slow: true, .. } => &[33],
        Place { name: "cpu", .. } => &[1, 7, 40],
        _ => &[7, 33, 40],
    };
    for &chunk in spans {
        let (other, logits) = read_anew(&mut engine, &ids, chunk);
        worst.compare(&format!("spans of {chunk}"), &logits, &wanted("logits").data);
        engine.close(other).expect("an open slot");
    }
    let (slot, logits) = read_anew(&mut engine, &ids, usize::MAX);
    worst.compare("logits", &logits, &wanted("logits").data);
    let decoded = read(&mut engine, slot, &tokens, 1);
    worst.compare("decoding", &decoded, &wanted("decode_logits").data);
    if f32s.is_empty() {
        compare_cache(&mut worst, &mut engine, slot, golden, "cache_final.");
    }
    let other = engine.open().expect("a slot");
    assert_eq!(greedy(&mut engine, other, &ids, tokens.len()).0, tokens, "{what}");
    worst.finish();
}
