//! At load, every op runs on this very adapter against its CPU reference: a driver that computes wrongly is an error, not
//! gibberish. A small model of three layers, one like Hymba's, one like Falcon-H1's, and one of what Qwen3.5 and mixtures of
//! experts have, with a different weight format in each place; one long span (tiles, chunked scans), every value of which is
//! compared, then steps of one row (the fused kernels of decode, keys in slices), of which the logits are.

use std::rc::Rc;

use super::WebGpuBackend;
use super::forms::Forms;
use super::gpu::{Gpu, Measure};
use crate::backend::cpu::CpuBackend;
use crate::backend::{Backend, BackendError, Outputs, ProgramSpec, Result, Span, Step, StepTable, Tokens};
use crate::formats::{GROUP, Quantised, Rounding};
use crate::graph::ops::{Attention, KvAppend, SsdScan};
use crate::graph::regions::{GatedDeltaSpec, Mamba1Spec};
use crate::graph::{
    ExpertChoice, Function, Graph, GraphBuilder, KvSpec, NormKind, Part, Rotary, Routing, RowBlock, Rows, SourceBlock,
    StateKind, ValueId, WeightClass, WeightDesc, WeightFormat, WeightId, WeightRecipe,
};
use crate::state::{KvFormat, Sampler, SlotId, StateLayout, mask_words};

/// Largest difference allowed, relative to the largest number of a value (at least 1).
const TOLERANCE: f32 = 2e-3;
const WIDTH: usize = 24;
const VOCABULARY: usize = 37;
const LONG: usize = 40;
const MORE: usize = 30;
/// Enough that decode cuts keys into slices.
const CONTEXT: usize = 1100;

/// Runs the test, with the forms that the device would use and with those that run everywhere. Where only the latter are
/// right, they are what it uses; the sentence says so.
pub(super) async fn run(gpu: &Rc<Gpu>) -> Result<Option<String>> {
    let chosen = gpu.forms.get();
    let found = agrees(gpu, KvFormat::F32).await;
    gpu.forms.set(Forms::BASIC);
    agrees(gpu, KvFormat::F16).await?;
    match found {
        Ok(()) => {
            gpu.forms.set(chosen);
            Ok(None)
        }
        // A wrong result, or a shader that the driver does not take.
        Err(error @ (BackendError::SelfTest { .. } | BackendError::Driver { .. }))
            if chosen != Forms::BASIC && gpu.given_forms.is_empty() =>
        {
            // It is really the forms, and nothing that both have.
            agrees(gpu, KvFormat::F32).await?;
            gpu.measure.set(Measure::Never);
            Ok(Some(format!("the kernels `{}` run, as of `{chosen}` one is wrong: {error}", Forms::BASIC)))
        }
        Err(error) => Err(error),
    }
}

/// Compares the device with the reference.
async fn agrees(gpu: &Rc<Gpu>, kv: KvFormat) -> Result<()> {
    let graph = model().map_err(|e| BackendError::Misuse(format!("the self-test's graph: {e}")))?;
    let kept = kept(&graph);
    let expected = exercise(&mut CpuBackend::reference(), &graph, &kept, kv).await?;
    let mut device = WebGpuBackend::on(gpu.clone());
    let got = exercise(&mut device, &graph, &kept, kv).await?;
    for ((name, got), (_, expected)) in got.iter().zip(&expected) {
        let largest = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
        let difference = got.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest);
        // NaN must not pass for small.
        let difference = difference.fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
        if difference > TOLERANCE || got.len() != expected.len() {
            return Err(BackendError::SelfTest { kernel: name.clone(), difference, tolerance: TOLERANCE });
        }
    }
    Ok(())
}

/// Numbers between -1 and 1 that look random and are the same everywhere.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn weight(g: &mut GraphBuilder, name: &str, class: WeightClass, rows: usize, columns: usize) -> WeightId {
    g.weight(WeightRecipe::new(name, class, vec![Part::all(name, &[rows, columns])]))
}

fn model() -> std::result::Result<Graph, crate::graph::GraphError> {
    use WeightClass::{Matrix, Vector};
    let mut g = GraphBuilder::new();
    let table = weight(&mut g, "embed", Matrix, VOCABULARY, WIDTH);
    let x = g.embed("embed", table, 1.5);
    let scale = weight(&mut g, "norm", Vector, 1, WIDTH);
    let normed = g.rms_norm("norm", g.whole(x), scale, 1e-5);

    // Windowed attention and a selective scan.
    // An odd width of values: what is behind them begins at no word of four columns.
    let (heads, kv_heads, key, value, states) = (4, 2, 8, 65, 5);
    let widths = [heads * key, kv_heads * key, kv_heads * value, WIDTH, WIDTH];
    let project = weight(&mut g, "project", Matrix, widths.iter().sum(), WIDTH);
    let projected = g.linear("linear (project)", normed, project, None);
    let [q, k, v, inner, z] = g.split(projected, widths);
    let rotary = g.rotary(Rotary::from_base(100.0, 4));
    let q = g.rope("rope", q, heads, rotary);
    let k = g.rope("rope k", k, kv_heads, rotary);
    let (q, k) = (g.whole(q), g.whole(k));
    let kv = g.kv(0, KvSpec { heads: kv_heads, key_width: key, value_width: value, pinned: 3, window: Some(20) });
    let attended = g.value("attention (window)", heads * value, Rows::All);
    let (window, decode_window) = (Some(20), Some(20));
    g.push(Attention { q, k, v, state: kv, heads, scale: 0.4, window, decode_window, out: attended });
    g.push(KvAppend { k, v, state: kv });
    let rank = 3;
    let bias = weight(&mut g, "bias", Vector, WIDTH, 1);
    let mixer = Mamba1Spec {
        conv: weight(&mut g, "kernel", Vector, WIDTH, 4),
        conv_bias: None,
        conv_state: g.state("conv", 0, StateKind::Conv { channels: WIDTH, d_conv: 4 }),
        x_proj: weight(&mut g, "select", Matrix, rank + 2 * states, WIDTH),
        norms: [("small", rank, 1e-5), ("small 2", states, 1e-4), ("small 3", states, 1e-6)]
            .map(|(name, width, eps)| (weight(&mut g, name, Vector, 1, width), eps)),
        dt_proj: weight(&mut g, "step", Matrix, WIDTH, rank),
        dt_bias: bias,
        a: weight(&mut g, "negative a", Vector, WIDTH, states),
        d: weight(&mut g, "d", Vector, WIDTH, 1),
        state: g.state("selective", 0, StateKind::Recurrent { shape: vec![WIDTH, states], channels_last: false }),
    };
    let scanned = g.mamba1_mixer("scan", inner, z, &mixer);
    let back = weight(&mut g, "back", Matrix, WIDTH, heads * value);
    let attended = g.linear("linear (back)", attended, back, Some(bias));
    let attended = g.rms_norm("norm attended", g.whole(attended), scale, 1e-5);
    let scanned = g.rms_norm("norm scanned", g.whole(scanned), scale, 1e-5);
    let fused = g.add("add norms", g.whole(attended), g.whole(scanned), 0.5);
    let out = weight(&mut g, "out", Matrix, WIDTH, WIDTH);
    let fused = g.linear("linear (out)", fused, out, None);
    // More columns than the lanes of a workgroup take at once, and more outputs than a workgroup makes.
    let widen = weight(&mut g, "widen", Matrix, 520, WIDTH);
    let many = weight(&mut g, "many", Matrix, 136, 520);
    let narrow = weight(&mut g, "narrow", Matrix, WIDTH, 136);
    let fused = g.linear("linear (widen)", fused, widen, None);
    let fused = g.linear("linear (many)", fused, many, None);
    let fused = g.linear("linear (narrow)", fused, narrow, None);
    let residual = g.add("add", g.whole(x), g.whole(fused), 0.5);
    let mixed = g.rms_norm("norm mixed", g.whole(residual), scale, 1e-5);

    // Global attention and an SSD scan.
    let (heads, columns, groups, states) = (6, 4, 3, 7);
    let widths = [heads * columns, groups * states, groups * states, heads, WIDTH, WIDTH, WIDTH];
    let project = weight(&mut g, "project 2", Matrix, widths.iter().sum(), WIDTH);
    let projected = g.linear("linear (project 2)", mixed, project, None);
    let [x, b, c, dt, q, k, v] = g.split(projected, widths);
    let a = weight(&mut g, "negative a 2", Vector, heads, 1);
    let d = weight(&mut g, "d 2", Vector, heads, 1);
    let dt_bias = weight(&mut g, "dt bias", Vector, heads, 1);
    let state = g.state("ssd", 1, StateKind::Recurrent { shape: vec![heads, columns, states], channels_last: false });
    let scanned = g.value("ssd_scan", heads * columns, Rows::All);
    let limit = (0.0, f32::INFINITY);
    g.push(SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, out: scanned });
    // Heads of whole words, whose keys decode cuts into slices.
    let kv = g.kv(1, KvSpec { heads: 3, key_width: 8, value_width: 8, pinned: 0, window: None });
    let attended = g.value("attention (global)", WIDTH, Rows::All);
    g.push(Attention { q, k, v, state: kv, heads: 3, scale: 0.4, window: None, decode_window: None, out: attended });
    g.push(KvAppend { k, v, state: kv });
    let by_columns = scan_by_columns(&mut g, mixed);
    let attended = g.add("add (columns)", g.whole(attended), g.whole(by_columns), 0.5);
    let gated = g.gate("gate", g.whole(scanned), g.whole(attended), Function::SquaredRelu);
    let grouped = g.norm("norm (layer)", g.whole(gated), NormKind::Layer, 4, 1e-3, Some(scale), None);
    let active = g.activation("activation", g.whole(grouped), Function::Silu, 1.25);
    let gated = g.gate("gate (linear)", g.whole(active), g.whole(residual), Function::Sigmoid);
    let last = g.linear("linear (last)", gated, out, None);
    let last = g.add("add (last)", g.whole(residual), g.whole(last), 1.0);

    // Two linear layers whose results are added, behind a gate and behind nothing. One matrix makes one format.
    let gated = g.gate("gate (pair)", g.whole(residual), g.whole(last), Function::Silu);
    let (one, other) = (g.linear("linear (gated)", gated, out, None), g.linear("linear (beside it)", last, out, None));
    let last = g.add("add (pair)", g.whole(one), g.whole(other), 0.5);
    let (one, other) =
        (g.linear("linear (plain)", last, out, None), g.linear("linear (beside that)", residual, out, None));
    let last = g.add("add (plain pair)", g.whole(one), g.whole(other), 0.25);
    let last = third_layer(&mut g, last);
    let logits = g.head(g.whole(last), table, VOCABULARY);
    g.sample(logits);
    g.finish()
}

/// A scan whose lanes lie along the columns of heads, of which a workgroup has several; two groups of them.
fn scan_by_columns(g: &mut GraphBuilder, stream: ValueId) -> ValueId {
    use WeightClass::{Matrix, Vector};
    let (heads, columns, groups, states) = (8, 32, 2, 8);
    let widths = [heads * columns, groups * states, groups * states, heads];
    let project = weight(g, "project (columns)", Matrix, widths.iter().sum(), WIDTH);
    let projected = g.linear("linear (columns)", stream, project, None);
    let [x, b, c, dt] = g.split(projected, widths);
    let a = weight(g, "negative a (columns)", Vector, heads, 1);
    let d = weight(g, "d (columns)", Vector, heads, 1);
    let dt_bias = weight(g, "dt bias (columns)", Vector, heads, 1);
    let kind = StateKind::Recurrent { shape: vec![heads, columns, states], channels_last: false };
    let (state, limit) = (g.state("ssd (columns)", 1, kind), (0.0, f32::INFINITY));
    let out = g.value("ssd_scan (columns)", heads * columns, Rows::All);
    g.push(SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, out });
    let back = weight(g, "back (columns)", Matrix, WIDTH, heads * columns);
    g.linear("linear (back from columns)", out, back, None)
}

/// The gated delta rule, attention with normed heads, experts, and the stream that goes through them.
fn third_layer(g: &mut GraphBuilder, stream: ValueId) -> ValueId {
    use WeightClass::{Matrix, Vector};
    let scale = weight(g, "norm 3", Vector, 1, WIDTH);
    let normed = g.rms_norm("norm 3", g.whole(stream), scale, 1e-5);
    let (heads, key_heads, key, value) = (4, 2, 5, 6);
    let channels = 2 * key_heads * key + heads * value;
    let head = WIDTH / heads;
    let widths = [channels, heads * value, heads, heads, WIDTH, 2 * head, 2 * head];
    let project = weight(g, "project 3", Matrix, widths.iter().sum(), WIDTH);
    let projected = g.linear("linear (project 3)", normed, project, None);
    let [qkv, z, beta, dt, q, k, v] = g.split(projected, widths);

    let state = StateKind::Recurrent { shape: vec![heads, key, value], channels_last: true };
    let mixer = GatedDeltaSpec {
        conv: weight(g, "kernel 3", Vector, channels, 3),
        conv_state: g.state("conv 3", 2, StateKind::Conv { channels, d_conv: 3 }),
        key_eps: 1e-6,
        a: weight(g, "negative a 3", Vector, heads, 1),
        dt_bias: weight(g, "dt bias 3", Vector, heads, 1),
        scale: 0.4,
        heads,
        key_heads,
        state: g.state("delta", 2, state),
        norm: weight(g, "norm of heads", Vector, 1, value),
        eps: 1e-3,
    };
    let delta = g.gated_delta_mixer("delta", [qkv, z, beta, dt], &mixer);

    let small = weight(g, "norm of q", Vector, 1, head);
    let rotary = g.rotary(Rotary::from_base(50.0, 4));
    let q = g.norm("norm q", q, NormKind::Rms, heads, 1e-5, Some(small), None);
    let k = g.norm("norm k", k, NormKind::Rms, 2, 1e-5, Some(small), None);
    let q = g.rope("rope 3", g.whole(q), heads, rotary);
    let k = g.rope("rope 3 k", g.whole(k), 2, rotary);
    let (q, k) = (g.whole(q), g.whole(k));
    let kv = g.kv(2, KvSpec { heads: 2, key_width: head, value_width: head, pinned: 0, window: None });
    let attended = g.value("attention 3", WIDTH, Rows::All);
    let (window, decode_window) = (None, None);
    g.push(Attention { q, k, v, state: kv, heads, scale: 0.4, window, decode_window, out: attended });
    g.push(KvAppend { k, v, state: kv });
    let mixed = g.add("add 3", g.whole(delta), g.whole(attended), 0.5);
    let stream = g.add("stream 3", g.whole(stream), g.whole(mixed), 0.5);

    let (experts, hidden) = (6, 11);
    let normed = g.rms_norm("norm (experts)", g.whole(stream), scale, 1e-5);
    let router = weight(g, "router", Matrix, experts, WIDTH);
    let logits = g.linear("linear (router)", normed, router, None);
    let bias = weight(g, "router bias", Vector, experts, 1);
    let routing = Routing::Sigmoid { normed: true, epsilon: 1e-20, scale: 0.5 };
    let routes = g.moe_route(
        "moe_route",
        g.whole(logits),
        Some(bias),
        routing,
        ExpertChoice { n_group: 3, topk_group: 2, top_k: 3 },
    );
    let up = weight(g, "up", Matrix, experts * hidden, WIDTH);
    let down = weight(g, "down", Matrix, experts * WIDTH, hidden);
    let routed = g.moe_apply("moe_apply", normed, routes, [up, down], experts, Function::SquaredRelu, false);
    let up = weight(g, "up (all)", Matrix, hidden, WIDTH);
    let raised = g.linear("linear (up)", normed, up, None);
    let squared = g.activation("activation (up)", g.whole(raised), Function::SquaredRelu, 1.0);
    let down = weight(g, "down (all)", Matrix, WIDTH, hidden);
    let shared = g.linear("linear (down)", squared, down, None);
    let mixed = g.add("add (experts)", g.whole(routed), g.whole(shared), 1.0);
    g.add("stream (experts)", g.whole(stream), g.whole(mixed), 0.1)
}

/// Every value that has a row for every token.
fn kept(graph: &Graph) -> Vec<ValueId> {
    let all = (0..graph.values.len() as u32).map(ValueId);
    all.filter(|&v| graph.value(v).rows == Rows::All).collect()
}

/// A different format for each matrix.
fn format(index: usize, recipe: &WeightRecipe) -> WeightFormat {
    if recipe.class == WeightClass::Vector {
        return WeightFormat::F32;
    }
    match WeightFormat::ALL[index % WeightFormat::ALL.len()] {
        WeightFormat::Quantised(format) if !format.holds(recipe.columns) => WeightFormat::Q8,
        format => format,
    }
}

/// Moves numbers to where a quantised format holds them exactly, so that there is one way to round them: multiples
/// of 1/8 or 1/128, and in every group the largest code (and the least, where there are minimums). FP8 is not rounded to here.
fn snap(numbers: &mut [f32], columns: usize, format: Quantised) {
    let (low, high) = match format {
        Quantised::Q8 => (-127.0, 127.0),
        Quantised::Q4 => (-7.0, 7.0),
        Quantised::Q4m => (-8.0, 7.0),
        Quantised::Fp8 => return,
    };
    let step = if format == Quantised::Q8 { 128.0 } else { 8.0 };
    for group in numbers.chunks_mut(columns).flat_map(|row| row.chunks_mut(GROUP)) {
        group.iter_mut().for_each(|x| *x = (*x * step).round().clamp(low, high) / step);
        group.iter_mut().zip([high, low]).for_each(|(x, extreme)| *x = extreme / step);
    }
}

async fn upload(backend: &mut dyn Backend, graph: &Graph) -> Result<()> {
    let mut matrices = 0;
    for (index, recipe) in graph.weights.iter().enumerate() {
        let (id, format) = (WeightId(index as u32), format(matrices, recipe));
        matrices += usize::from(recipe.class == WeightClass::Matrix);
        let WeightRecipe { name, rows, columns, class, .. } = recipe.clone();
        let mut numbers = noise(index as u32, rows * columns);
        if name.starts_with("negative") {
            numbers.iter_mut().for_each(|x| *x = -0.1 - x.abs());
        }
        if let WeightFormat::Quantised(format) = format {
            snap(&mut numbers, columns, format);
        }
        let mut bytes = vec![0; rows * format.row_bytes(columns)];
        for (row, numbers) in bytes.chunks_exact_mut(format.row_bytes(columns)).zip(numbers.chunks_exact(columns)) {
            format.encode(numbers, Rounding::Absmax, row);
        }
        backend.create_weight(id, &WeightDesc { name, rows, columns, format, class })?;
        if backend.quantises() && matches!(format, WeightFormat::Quantised(format) if format != Quantised::Fp8) {
            let (bytes, format) = (bytemuck::cast_slice(&numbers), WeightFormat::F32);
            let block = SourceBlock { first: 0, bytes, format, scale: 1.0, rounding: Rounding::MseSearch };
            backend.quantise_weight(id, block).await?;
        } else {
            backend.write_weight(id, RowBlock { first: 0, bytes: &bytes }).await?;
        }
    }
    Ok(())
}

/// All kept values and the logits after a long span, and the logits after each of two rows more; a token drawn
/// from each.
async fn exercise(
    backend: &mut dyn Backend,
    graph: &Graph,
    kept: &[ValueId],
    kv: KvFormat,
) -> Result<Vec<(String, Vec<f32>)>> {
    upload(backend, graph).await?;
    let layout = StateLayout::new(graph, 1, CONTEXT, kv);
    backend.allocate(&layout)?;
    let slot = SlotId(0);
    let pages: Vec<u32> = (0..layout.pages as u32).rev().collect();
    backend.set_pages(slot, &pages)?;
    backend.reset(slot)?;
    let token = |i: usize| (i * 7 % VOCABULARY) as u32;
    let sampler = Sampler {
        temperature: 0.8,
        top_k: 12,
        top_p: 0.95,
        min_p: 0.01,
        repetition: 1.2,
        biases: vec![(2, 0.5), (11, -1.0)],
        seed: 1,
        ..Default::default()
    };
    let mut values = Vec::new();
    // A long span, one that looks back at it, and single rows.
    for (first, rows) in [(0, LONG), (LONG, MORE), (LONG + MORE, 1), (LONG + MORE + 1, 1)] {
        // A program that keeps values does not fuse.
        let kept = if rows > 1 { kept } else { &[] };
        let spec = ProgramSpec { keep: kept.iter().copied().collect(), ..ProgramSpec::new(rows, 1) };
        let program = backend.compile(graph, &spec)?;
        let tokens = Tokens::Given((first..first + rows).map(token).collect());
        let step = Step { spans: vec![Span { slot, first, tokens, outputs: Outputs::Last }] };
        let table = StepTable::new(&step, &layout).map_err(|e| BackendError::Misuse(e.to_string()))?;
        backend.set_sampler(slot, &sampler, &[3, 5, 8])?;
        // Three of four tokens.
        backend.set_mask(slot, Some(&vec![0x7777_7777; mask_words(VOCABULARY)]))?;
        let ticket = backend.step(program, &table)?;
        // As a number, another token is far off.
        let tokens = backend.sampled(ticket).await?;
        values.push(("sample".into(), tokens.into_iter().map(|token| token as f32).collect()));
        for &value in kept {
            let name = graph.value(value).name.clone();
            values.push((name, backend.read(program, value, rows).await?));
        }
        if let Some(logits) = graph.logits {
            values.push((format!("the logits of a step of {rows} rows"), backend.read(program, logits, 1).await?));
        }
    }
    Ok(values)
}
