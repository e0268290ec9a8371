//! WebGPU's own promises: an adapter is named, a program ends with its memory, decode makes nothing new and starts few
//! kernels.

use crate::support::{Setting, adapter_or_skipped, checkpoint, load, wait, webgpu_or_skipped};
use selvedge::backend::webgpu::{self, WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, Outputs, ProgramSpec, Span, Step, StepTable, Tokens};
use selvedge::graph::{GraphBuilder, Part, WeightClass, WeightDesc, WeightFormat, WeightId, WeightSink};
use selvedge::runtime::{Cancel, Engine};
use selvedge::state::{KvFormat, SlotId, StateLayout};

#[test]
fn an_adapter_of_another_name_is_an_error_that_lists_the_ones_there_are() {
    let adapters = wait(webgpu::adapters());
    let options = WebGpuOptions { adapter: Some("no such adapter".into()), ..Default::default() };
    let Err(error) = wait(WebGpuBackend::new(&options)) else { panic!("an adapter that is not there was opened") };
    let error = error.to_string();
    assert!(adapters.iter().all(|a| error.contains(&a.adapter)), "{error}");
}

#[test]
fn a_program_ends_with_the_memory_it_was_compiled_for() {
    if !adapter_or_skipped() {
        return;
    }
    let options = WebGpuOptions { self_test: false, ..Default::default() };
    let mut backend = wait(WebGpuBackend::new(&options)).expect("the adapter opens");
    let mut b = GraphBuilder::new();
    let table = b.matrix("table", vec![Part::all("table", &[3, 8])]);
    let out = b.embed("out", table, 1.0);
    let graph = b.finish().expect("a graph");
    let (name, format, class) = ("table".into(), WeightFormat::F32, WeightClass::Matrix);
    backend.create_weight(WeightId(0), &WeightDesc { name, rows: 3, columns: 8, format, class }).expect("room");
    let layout = StateLayout::new(&graph, 1, 64, KvFormat::F32);
    let spec = ProgramSpec { keep: [out].into(), ..ProgramSpec::new(1, 0) };
    let span = Span { slot: SlotId(0), first: 0, tokens: Tokens::Given(vec![1]), outputs: Outputs::None };
    let table = StepTable::new(&Step { spans: vec![span] }, &layout).expect("a step");
    let mut programs = vec![];
    for _ in 0..2 {
        backend.allocate(&layout).expect("room");
        programs.push(backend.compile(&graph, &spec).expect("a program"));
    }
    assert_ne!(programs[0], programs[1]);
    let error = backend.step(programs[0], &table).expect_err("its memory is gone").to_string();
    assert!(error.contains("no program"), "{error}");
    backend.step(programs[1], &table).expect("it runs");
}

/// Kernels of one decode step of a model, without embedding, head and sampling.
fn decode(engine: &mut Engine) -> Vec<String> {
    let slot = engine.open().expect("a slot");
    let prompt: Vec<u32> = (3..20).collect();
    let read = wait(engine.prefill(slot, &prompt, 8, &Cancel::default())).expect("a prompt");
    wait(engine.sampled(&read.expect("nobody cancels"))).expect("a token");
    // The first tokens may still make buffers to read back with.
    for _ in 0..4 {
        let step = engine.decode(slot).expect("a step");
        wait(engine.sampled(&step)).expect("a token");
    }
    let (before, alive) = (engine.counters(), engine.backend().device_objects());
    let mut dispatches = vec![];
    const TOKENS: u64 = 10;
    for _ in 0..TOKENS {
        let step = engine.decode(slot).expect("a step");
        wait(engine.sampled(&step)).expect("a token");
        dispatches = engine.dispatches(&step);
    }
    let after = engine.counters();
    assert_eq!(after.objects, before.objects, "decode made device objects");
    assert!(alive.is_some(), "wgpu counts its objects");
    assert_eq!(engine.backend().device_objects(), alive, "wgpu's own counters, before and after {TOKENS} tokens");
    assert_eq!(after.submits - before.submits, TOKENS, "one submit a token");
    assert_eq!(after.bytes_read - before.bytes_read, 4 * TOKENS, "four bytes a token come back");
    println!("{} bytes written a token", (after.bytes_written - before.bytes_written) / TOKENS);
    let ends = ["freeze", "embed", "gather", "sample"];
    dispatches.retain(|d| !ends.iter().any(|end| d.starts_with(end)));
    dispatches
}

#[test]
fn decode_makes_nothing_and_starts_few_kernels() {
    let Some(place) = webgpu_or_skipped() else { return };
    // Kernels of a layer.
    for (name, budget) in [("hymba/caseA", 8), ("falcon_h1", 8)] {
        let mut engine = load(&place, &checkpoint(name), Setting::default());
        let layers = engine.model().layers;
        let kernels = decode(&mut engine);
        for kernel in &kernels {
            println!("  {kernel}");
        }
        // The head: the last residual, its norm, the linear layer.
        // One more where a context is long enough for several slices of keys.
        let merges = kernels.iter().filter(|kernel| kernel.contains("attention_merge")).count();
        let each = (kernels.len() - 3 - merges) as f64 / layers as f64;
        println!("{name}: {} kernels in {layers} layers, {each:.2} a layer and {merges} merges", kernels.len());
        assert!(each <= f64::from(budget), "{name}: {each} kernels a layer");
    }
}
