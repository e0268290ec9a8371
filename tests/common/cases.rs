//! The table: every op, every storage format, odd shapes.

use selvedge::backend::Outputs;
use selvedge::graph::ops::{Attention, GatedDelta, Growth, KvAppend, SelectiveScan, SsdScan};
use selvedge::graph::{
    ExpertChoice, Function, GraphBuilder, KvSpec, Map, NormKind, Part, Rotary, Routing, Rows, StateKind, ValueId, View,
    WeightFormat, WeightId,
};
use selvedge::state::{KvFormat, Sampler};

use super::{OpCase, Script};

const FORMATS: [WeightFormat; 7] = WeightFormat::ALL;
const FUNCTIONS: [Function; 4] = [Function::Identity, Function::Silu, Function::SquaredRelu, Function::Sigmoid];

/// Every case of the table.
pub fn cases() -> Vec<OpCase> {
    with_spans_of(300)
}

/// Every case, its longest span so long.
fn with_spans_of(long: usize) -> Vec<OpCase> {
    [
        embed(long),
        norm(long),
        linear(long),
        pointwise(long),
        conv(long),
        rope(long),
        attention(long),
        selective_scan(long),
        ssd_scan(long),
        gated_delta(long),
        moe(long),
        outputs(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The cases of a backend without quantised formats. Its kernels go through a span row by row or in tiles of at most 64, so
/// that spans of more than two pages would run on the emulator for minutes and reach no other code.
pub fn unquantised() -> Vec<OpCase> {
    with_spans_of(150).into_iter().filter(|case| !case.is_quantised()).collect()
}

/// The cases of a driver that takes a second for what others do in a hundredth: shorter spans, and of the quantised
/// formats the one whose kernels have the most to do.
pub fn fewer() -> Vec<OpCase> {
    let others = [WeightFormat::Q8, WeightFormat::Q4];
    with_spans_of(100)
        .into_iter()
        .filter(|case| case.weights.iter().all(|(d, _)| !others.contains(&d.format)))
        .collect()
}

/// A vector weight.
fn numbers(b: &mut GraphBuilder, name: &str, length: usize) -> WeightId {
    b.vector(Part::all(name, &[length]))
}

/// Negative numbers, as decays are.
fn decays(b: &mut GraphBuilder, shape: &[usize]) -> WeightId {
    b.vector(Part::all("a_log", shape).mapped(Map::NegExp))
}

/// The last `width` columns of a new input that is `before` columns wider.
fn input_behind(b: &mut GraphBuilder, name: &str, before: usize, width: usize) -> View {
    let value = b.input(name, before + width);
    b.view(value, before, width)
}

/// Steps of 1, 7, 64, 65 and `long` rows in spans of three slots: what an op must stand that looks at rows
/// one by one.
fn row_counts(long: usize, script: Script) -> OpCase {
    script.step(&[(0, 1)]).step(&[(1, 3), (0, 4)]).step(&[(2, 64)]).step(&[(0, 1), (1, 64)]).step(&[(2, long)]).finish()
}

/// Ragged steps: prefill, decode after prefill, spans shorter and longer than any window or chunk, slots
/// that come and go in any order.
fn ragged(long: usize, script: Script) -> OpCase {
    script
        .step(&[(1, 7)])
        .step(&[(0, 65), (1, 1)])
        .step(&[(1, 1), (0, 1)])
        .step(&[(2, 2), (0, 64), (1, 3)])
        .step(&[(2, long)])
        .step(&[(2, 1)])
        .step(&[(0, 1), (2, 1), (1, 1)])
        .step(&[(1, 33), (2, 5)])
        .finish()
}

/// The ops whose rows look back, each in a step of `rows` rows of one slot and `more` rows after it. One
/// row or several of them, they see the same keys.
pub fn looking_back(rows: usize, more: usize) -> Vec<OpCase> {
    let window = |pinned, window| Heads { query: 4, kv: 2, key: 6, value: 10, pinned, window, decode_window: window };
    let small = |b: GraphBuilder, op, outs: &[ValueId]| {
        Script::new(op, "cut", b, outs).step(&[(1, rows)]).step(&[(1, more)]).finish()
    };
    let mut cases = vec![];
    for (pinned, window_of) in [(0, None), (3, None), (0, Some(1)), (3, Some(5)), (2, Some(16))] {
        let (b, outs) = window(pinned, window_of).graph();
        cases.push(small(b, "attention", &outs));
    }
    for (b, out) in [
        conv_graph(5, 5, 4, true, Function::Silu),
        conv_graph(5, 13, 2, false, Function::Identity),
        conv_graph(8, 12, 3, true, Function::SquaredRelu),
        conv_graph(4, 8, 5, false, Function::Silu),
    ] {
        cases.push(small(b, "conv", &[out]));
    }
    let (b, out) = selective_scan_graph(5, 9);
    cases.push(small(b, "selective_scan", &[out]));
    for (before, shape) in [(1, [4, 3, 2, 9]), (4, [8, 32, 2, 8])] {
        let (b, out) = ssd_scan_graph(before, shape, (0.0, f32::INFINITY));
        cases.push(small(b, "ssd_scan", &[out]));
    }
    let (b, out) = gated_delta_graph(4, 2, 6, 9);
    cases.push(small(b, "gated_delta", &[out]));
    cases
}

fn embed(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for format in FORMATS {
        for (ids, width, scale) in [(97, 5, 1.0), (13, 64, 12.5), (301, 97, 0.034)] {
            let mut b = GraphBuilder::new();
            let table = b.matrix("table", vec![Part::all("words", &[ids - 3, width]), Part::all("meta", &[3, width])]);
            let out = b.embed("out", table, scale);
            let detail = format!("{} [{ids}, {width}] x {scale}", format.name());
            cases.push(row_counts(long, Script::new("embed", detail, b, &[out]).weight_format(format).vocabulary(ids)));
        }
    }
    cases
}

fn norm(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for kind in [NormKind::Rms, NormKind::Layer, NormKind::L2] {
        // Columns before, columns, groups, columns of weight and bias (0: none).
        for (before, width, groups, weight, bias) in [
            (3, 5, 1, 5, 0),
            (3, 13, 1, 13, 13),
            (3, 97, 1, 0, 0),
            (3, 96, 3, 96, 0),
            (3, 96, 8, 12, 12),
            (3, 65, 5, 13, 0),
            (3, 1600, 1, 1600, 0),
            // Words of four columns, but for the groups of the last.
            (0, 20, 1, 0, 0),
            (4, 96, 3, 96, 96),
            (8, 96, 8, 12, 0),
            (4, 1600, 1, 1600, 0),
            (4, 60, 6, 10, 10),
        ] {
            let mut b = GraphBuilder::new();
            let x = input_behind(&mut b, "x", before, width);
            let weight_id = (weight > 0).then(|| numbers(&mut b, "weight", weight));
            let bias_id = (bias > 0).then(|| numbers(&mut b, "bias", bias));
            let out = b.norm("out", x, kind, groups, 1e-6, weight_id, bias_id);
            let detail = format!("{kind:?} {width} from column {before} in {groups}, weight {weight}, bias {bias}");
            cases.push(row_counts(long, Script::new("norm", detail, b, &[out])));
        }
    }
    cases
}

fn linear(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for format in FORMATS {
        // Inputs, rows of the weight, rows of it that are used, bias.
        for (inputs, rows, outputs, bias) in [
            (5, 13, 13, true),
            (13, 97, 97, false),
            (97, 5, 5, true),
            (64, 64, 64, false),
            (100, 131, 128, false),
            (8, 1, 1, false),
            (321, 259, 259, true),
            (2048, 66, 65, false),
        ] {
            let mut b = GraphBuilder::new();
            let x = b.input("x", inputs);
            let scale = (inputs as f32).sqrt().recip();
            let weight = b.matrix("weight", vec![Part::all("weight", &[rows, inputs]).scaled(scale)]);
            let bias_id = bias.then(|| numbers(&mut b, "bias", outputs));
            let out = b.linear_rows("out", x, weight, bias_id, outputs);
            let detail = format!("{} {inputs} -> {outputs} of {rows}, bias {bias}", format.name());
            let script = Script::new("linear", detail, b, &[out]).weight_format(format);
            let script = script.step(&[(0, 2)]).step(&[(0, 3)]).step(&[(0, 1), (1, 1), (2, 3)]).step(&[(0, 16)]);
            cases.push(row_counts(long, script));
        }
    }
    cases
}

fn pointwise(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for function in FUNCTIONS {
        // Words of four columns, where widths and offsets are whole ones, or none.
        for (before, width) in [(0, 5), (13, 97), (3, 256), (4, 36), (0, 260), (4, 34)] {
            let mut b = GraphBuilder::new();
            let both = b.input("both", before + 2 * width);
            let (gate, x) = (b.view(both, before + width, width), b.view(both, before, width));
            let out = b.gate("out", gate, x, function);
            let detail = format!("{function:?} {width} from column {before}");
            cases.push(row_counts(long, Script::new("gate", detail.clone(), b, &[out]).scale(4.0)));

            let mut b = GraphBuilder::new();
            let x = input_behind(&mut b, "x", before, width);
            let out = b.activation("out", x, function, -1.75);
            cases.push(row_counts(long, Script::new("activation", detail, b, &[out]).scale(4.0)));
        }
    }
    // A gate for several columns, in whole words or not, behind what is no whole word.
    for (before, gates, span) in [(0, 1, 5), (13, 1, 96), (4, 1, 260), (3, 6, 36), (8, 4, 7), (1, 97, 2)] {
        let mut b = GraphBuilder::new();
        let (gate, x) = (input_behind(&mut b, "gate", before, gates), input_behind(&mut b, "x", 4, gates * span));
        let out = b.gate("out", gate, x, Function::Sigmoid);
        let detail = format!("{gates} for {span} columns each, from column {before}");
        cases.push(row_counts(long, Script::new("gate", detail, b, &[out]).scale(4.0)));
    }
    for (before, width, scale) in [(0, 5, 1.0), (13, 97, -0.25), (1, 256, 3.0), (4, 36, -0.25), (0, 260, 1.0)] {
        let mut b = GraphBuilder::new();
        let (x, y) = (input_behind(&mut b, "x", before, width), input_behind(&mut b, "y", 0, width));
        let out = b.add("out", x, y, scale);
        cases.push(row_counts(long, Script::new("add", format!("{width} from column {before}, x {scale}"), b, &[out])));
    }
    cases
}

/// A convolution of columns that `before` others precede.
fn conv_graph(
    before: usize,
    channels: usize,
    d_conv: usize,
    bias: bool,
    function: Function,
) -> (GraphBuilder, ValueId) {
    let mut b = GraphBuilder::new();
    let x = input_behind(&mut b, "x", before, channels);
    let weight = b.vector(Part::all("weight", &[channels, 1, d_conv]));
    let bias = bias.then(|| numbers(&mut b, "bias", channels));
    let state = b.state("conv", 0, StateKind::Conv { channels, d_conv });
    let out = b.conv("out", x, weight, bias, state, function);
    (b, out)
}

fn conv(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for (before, channels, d_conv, bias, function) in [
        (5, 5, 4, true, Function::Silu),
        (5, 13, 3, false, Function::Identity),
        (5, 97, 2, true, Function::Silu),
        (5, 200, 4, false, Function::Silu),
        (5, 64, 7, true, Function::Identity),
        // Words of four channels.
        (4, 36, 2, true, Function::Identity),
        (0, 12, 3, false, Function::SquaredRelu),
        (8, 200, 4, true, Function::Silu),
        (4, 64, 5, false, Function::Sigmoid),
        (0, 8, 9, true, Function::Silu),
        // A width or an offset that is none of whole words.
        (4, 34, 4, true, Function::Silu),
        (6, 36, 9, false, Function::Identity),
    ] {
        let (b, out) = conv_graph(before, channels, d_conv, bias, function);
        let detail = format!("{channels} channels from column {before}, kernel of {d_conv}, bias {bias}, {function:?}");
        // Around the ends of chunks, and one row for each slot.
        let script = Script::new("conv", detail.clone(), b.clone(), &[out]).step(&[(0, 31), (1, 40)]);
        let script = script.step(&[(1, 1), (0, 1), (2, 1)]).step(&[(2, 32), (1, 70), (0, 33)]);
        cases.push(ragged(long, script));
        let script = Script::new("conv_append", format!("{detail}: from the initial state, copied"), b, &[out]);
        cases.push(ragged(long, script.prefix_tokens(5).step(&[(0, 1), (1, 2)]).copy(0, 2).step(&[(2, 1), (0, 1)])));
    }
    cases
}

fn rope(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for (heads, head, rotated, base) in [(1, 2, 2, 1e4), (5, 13, 6, 1e4), (3, 64, 64, 74534.83), (4, 64, 16, 1e11)] {
        let mut b = GraphBuilder::new();
        let x = input_behind(&mut b, "x", 7, heads * head);
        let rotary = b.rotary(Rotary { scale: 1.25, ..Rotary::from_base(base, rotated) });
        let out = b.rope("out", x, heads, rotary);
        let detail = format!("{heads} heads of {head}, {rotated} rotated, base {base}");
        cases.push(row_counts(long, Script::new("rope", detail, b, &[out])));
    }
    let mut b = GraphBuilder::new();
    let x = input_behind(&mut b, "x", 3, 2 * 12);
    let rotary = b.rotary(Rotary::from_base(1e4, 8));
    let out = b.rope_growing("out", x, 2, rotary, Some(Growth { beta: 0.4, original: 5 }));
    cases.push(row_counts(long, Script::new("rope", "2 heads of 12, 8 rotated, growing", b, &[out])));
    cases
}

/// The shape of an attention.
#[derive(Clone, Copy)]
struct Heads {
    query: usize,
    kv: usize,
    key: usize,
    value: usize,
    pinned: usize,
    window: Option<usize>,
    decode_window: Option<usize>,
}

impl Heads {
    /// An attention of two layers over one memory: the second reads what the first made, and both read it
    /// before it is appended.
    fn graph(self) -> (GraphBuilder, Vec<ValueId>) {
        let Self { query, kv, key, value, pinned, window, decode_window } = self;
        let mut b = GraphBuilder::new();
        let kv_input = b.input("kv", kv * (key + value));
        let [k, v] = b.split(kv_input, [kv * key, kv * value]);
        let state = b.kv(0, KvSpec { heads: kv, key_width: key, value_width: value, pinned, window });
        let scale = (key as f32).sqrt().recip();
        let mut outs = vec![];
        for name in ["first", "second"] {
            // Words of four columns, where heads are whole ones, or no such word.
            let before = if key % 4 == 0 { 4 } else { 3 };
            let q = input_behind(&mut b, &format!("{name} q"), before, query * key);
            let out = b.value(name, query * value, Rows::All);
            b.push(Attention { q, k, v, state, heads: query, scale, window, decode_window, out });
            outs.push(out);
        }
        b.push(KvAppend { k, v, state });
        (b, outs)
    }

    fn detail(self, format: KvFormat) -> String {
        let Self { query, kv, key, value, pinned, window, decode_window } = self;
        let see = |w: Option<usize>| w.map_or("all".to_owned(), |w| w.to_string());
        let (window, decode) = (see(window), see(decode_window));
        format!("{format:?} {query}/{kv} heads {key}/{value}, pinned {pinned}, window {window}/{decode}")
    }
}

/// Rows that are read first where keys are far back.
const FAR: usize = 1700;

fn attention(long: usize) -> Vec<OpCase> {
    let global = Heads { query: 5, kv: 1, key: 14, value: 6, pinned: 0, window: None, decode_window: None };
    let wide = Heads { query: 4, kv: 2, key: 64, value: 128, ..global };
    let window = |heads: Heads, pinned, window, decode| Heads {
        pinned,
        window: Some(window),
        decode_window: Some(decode),
        ..heads
    };
    let shapes = [
        global,
        wide,
        Heads { query: 3, kv: 3, key: 5, value: 97, ..global },
        Heads { query: 4, kv: 2, key: 5, value: 13, ..global },
        Heads { query: 5, kv: 1, key: 16, value: 200, ..global },
        Heads { pinned: 6, ..wide },
        window(global, 0, 5, 5),
        window(global, 3, 5, 4),
        window(wide, 6, 64, 64),
        window(wide, 1, 63, 62),
        window(Heads { query: 6, kv: 2, key: 16, value: 32, ..global }, 2, 1, 1),
        window(Heads { query: 2, kv: 2, key: 32, value: 32, ..global }, 128, 200, 199),
        // Longer than the context: a ring that never wraps.
        window(global, 4, 4000, 4000),
    ];
    let mut cases = vec![];
    for heads in shapes {
        for format in [KvFormat::F32, KvFormat::F16] {
            let (b, outs) = heads.graph();
            let script = Script::new("attention", heads.detail(format), b, &outs).kv_format(format);
            let script = if heads.pinned > 0 { script.prefix_tokens(heads.pinned) } else { script };
            // A difference in the last place of what goes into f16 is one of 2^-11 of what comes out.
            let tolerance = if format == KvFormat::F16 { 1e-5 } else { 2e-6 };
            cases.push(ragged(long, script.tolerance(tolerance)));
        }
        let (b, outs) = heads.graph();
        let script = Script::new("kv_append", format!("{}: copied", heads.detail(KvFormat::F32)), b, &outs);
        let script = if heads.pinned > 0 { script.prefix_tokens(heads.pinned) } else { script };
        let script = script.step(&[(0, 70), (1, 3)]).copy(0, 2).step(&[(2, 1), (0, 1)]).step(&[(0, 150), (2, 20)]);
        cases.push(script.copy(1, 0).step(&[(0, 2), (1, 2), (2, 1)]).finish());
    }
    // Contexts of several slices, or windows of less than two.
    let narrow = Heads { query: 6, kv: 2, key: 8, value: 12, ..global };
    let far = [
        narrow,
        Heads { query: 9, kv: 1, value: 100, ..narrow },
        Heads { query: 2, kv: 2, value: 200, pinned: 6, ..narrow },
        window(narrow, 3, 1200, 1200),
        window(narrow, 3, 1200, 600),
        window(narrow, 0, 500, 500),
    ];
    for heads in far.into_iter().take(if long < 200 { 1 } else { far.len() }) {
        for format in [KvFormat::F32, KvFormat::F16] {
            let (b, outs) = heads.graph();
            let detail = format!("far back, {}", heads.detail(format));
            let script = Script::new("attention", detail, b, &outs).context(FAR + 20).kv_format(format);
            let script = if heads.pinned > 0 { script.prefix_tokens(heads.pinned) } else { script };
            let tolerance = if format == KvFormat::F16 { 1e-5 } else { 2e-6 };
            let script = script.step(&[(0, FAR), (1, 3)]).step(&[(0, 1), (1, 1)]).step(&[(0, 2), (1, 1)]);
            cases.push(script.step(&[(1, 1)]).step(&[(0, 1)]).tolerance(tolerance).finish());
        }
    }
    cases
}

fn selective_scan_graph(channels: usize, n: usize) -> (GraphBuilder, ValueId) {
    let mut b = GraphBuilder::new();
    let x = input_behind(&mut b, "x", 1, channels);
    let dt = input_behind(&mut b, "dt", 0, channels);
    let (bv, c) = (input_behind(&mut b, "b", 4, n), input_behind(&mut b, "c", 0, n));
    let (a, d) = (decays(&mut b, &[channels, n]), numbers(&mut b, "d", channels));
    let state = b.state("ssm", 0, StateKind::Recurrent { shape: vec![channels, n], channels_last: false });
    let out = b.value("out", channels, Rows::All);
    b.push(SelectiveScan { x, dt, b: bv, c, a, d, state, out });
    (b, out)
}

fn selective_scan(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for (channels, n) in [(5, 3), (13, 16), (97, 5), (200, 16), (64, 8)] {
        let (b, out) = selective_scan_graph(channels, n);
        let detail = format!("{channels} channels of {n}");
        cases.push(ragged(long, Script::new("selective_scan", detail.clone(), b.clone(), &[out])));
        // Steps from almost none to far past where softplus turns linear.
        let wild = Script::new("selective_scan", format!("{detail}: wild"), b, &[out]).scale(8.0).tolerance(1e-5);
        cases.push(ragged(long, wild.prefix_tokens(40).step(&[(0, 31)]).copy(0, 1)));
    }
    cases
}

/// A scan of Mamba-2, the columns of x that `before` others precede.
fn ssd_scan_graph(before: usize, [heads, p, groups, n]: [usize; 4], limit: (f32, f32)) -> (GraphBuilder, ValueId) {
    let mut b = GraphBuilder::new();
    let x = input_behind(&mut b, "x", before, heads * p);
    let dt = input_behind(&mut b, "dt", 2, heads);
    let (bv, c) = (input_behind(&mut b, "b", 4, groups * n), input_behind(&mut b, "c", 0, groups * n));
    let (a, d) = (decays(&mut b, &[heads]), numbers(&mut b, "d", heads));
    let dt_bias = numbers(&mut b, "dt_bias", heads);
    let state = b.state("ssm", 0, StateKind::Recurrent { shape: vec![heads, p, n], channels_last: false });
    let out = b.value("out", heads * p, Rows::All);
    b.push(SsdScan { x, dt, b: bv, c, a, d, dt_bias, limit, heads, groups, state, out });
    (b, out)
}

fn ssd_scan(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for (before, shape, limit) in [
        (1, [3, 5, 1, 7], (0.0, f32::INFINITY)),
        (1, [6, 13, 3, 16], (0.0, f32::INFINITY)),
        (1, [4, 64, 2, 128], (0.0, f32::INFINITY)),
        (1, [2, 32, 1, 64], (0.5, 1.5)),
        (1, [8, 16, 8, 97], (0.001, f32::INFINITY)),
        // Words of four numbers; the last three have the columns of a workgroup in each group.
        (4, [3, 12, 3, 20], (0.0, f32::INFINITY)),
        (0, [4, 64, 2, 128], (0.0, f32::INFINITY)),
        (8, [8, 32, 2, 8], (0.5, 1.5)),
        (4, [12, 64, 2, 24], (0.001, f32::INFINITY)),
    ] {
        let (b, out) = ssd_scan_graph(before, shape, limit);
        let [heads, p, groups, n] = shape;
        let detail = format!("{heads} heads of {p} x {n} from column {before}, {groups} groups, limit {limit:?}");
        // Around the ends of chunks.
        let script = Script::new("ssd_scan", detail.clone(), b.clone(), &[out]).tolerance(4e-6);
        cases.push(ragged(long, script.step(&[(0, 31), (1, 40)]).step(&[(2, 8), (0, 70), (1, 63)])));
        let copied = Script::new("ssd_scan", format!("{detail}: copied"), b, &[out]).tolerance(4e-6);
        cases.push(ragged(long, copied.prefix_tokens(3).step(&[(0, 31)]).copy(0, 1)));
    }
    cases
}

/// A gated delta rule, its queries and keys normed as they are in models.
fn gated_delta_graph(heads: usize, key_heads: usize, key: usize, value: usize) -> (GraphBuilder, ValueId) {
    let mut b = GraphBuilder::new();
    let columns = [1, key_heads * key, key_heads * key, heads * value];
    let all = b.input("qkv", columns.iter().sum());
    let [_, q, k, v] = b.split(all, columns);
    let normed = |b: &mut GraphBuilder, name, x| b.norm(name, x, NormKind::L2, key_heads, 1e-6, None, None);
    let (q, k) = (normed(&mut b, "q", q), normed(&mut b, "k", k));
    let (q, k) = (b.whole(q), b.whole(k));
    let (beta, dt) = (input_behind(&mut b, "beta", 2, heads), input_behind(&mut b, "dt", 0, heads));
    let (a, dt_bias) = (decays(&mut b, &[heads]), numbers(&mut b, "dt_bias", heads));
    let state = b.state("ssm", 0, StateKind::Recurrent { shape: vec![heads, key, value], channels_last: true });
    let (out, scale) = (b.value("out", heads * value, Rows::All), (key as f32).sqrt().recip());
    b.push(GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads, state, out });
    (b, out)
}

fn gated_delta(long: usize) -> Vec<OpCase> {
    let mut cases = vec![];
    for (heads, key_heads, key, value) in [(2, 2, 5, 3), (6, 2, 13, 16), (4, 4, 32, 97), (2, 1, 128, 128)] {
        let (b, out) = gated_delta_graph(heads, key_heads, key, value);
        let detail = format!("{heads}/{key_heads} heads of {key} x {value}");
        cases.push(ragged(long, Script::new("gated_delta", detail.clone(), b.clone(), &[out])));
        let copied = Script::new("gated_delta", format!("{detail}: copied"), b.clone(), &[out]);
        cases.push(ragged(long, copied.prefix_tokens(3).step(&[(0, 31)]).copy(0, 1)));
        // All or nothing is forgotten, and all or nothing corrected.
        let wild = Script::new("gated_delta", format!("{detail}: wild"), b, &[out]).scale(8.0);
        cases.push(ragged(long, wild.tolerance(1e-5)));
    }
    cases
}

/// Routes, and the experts that they lead to.
fn moe(long: usize) -> Vec<OpCase> {
    let softmax = |normed| Routing::Softmax { normed };
    let sigmoid = |normed, epsilon, scale| Routing::Sigmoid { normed, epsilon, scale };
    let mut cases = vec![];
    for format in FORMATS {
        // Width in and out, hidden, experts; `n_group`, `topk_group` and `top_k` of their choice.
        for (width, outputs, hidden, experts, [n_group, topk_group, top_k], routing, biased, function, gated) in [
            (13, 13, 5, 4, [1, 1, 2], softmax(true), false, Function::Silu, true),
            (64, 48, 97, 12, [4, 2, 6], sigmoid(true, 1e-20, 2.5), true, Function::SquaredRelu, false),
            (33, 40, 16, 7, [1, 1, 7], sigmoid(false, 0.0, 1.0), true, Function::SquaredRelu, false),
            (24, 20, 9, 8, [1, 1, 3], sigmoid(true, 0.25, 1.5), true, Function::Silu, true),
            (24, 20, 9, 11, [1, 1, 3], softmax(false), false, Function::Silu, true),
            (64, 64, 32, 10, [5, 5, 1], softmax(true), false, Function::Silu, true),
        ] {
            let mut b = GraphBuilder::new();
            let x = b.input("x", width);
            let logits = input_behind(&mut b, "logits", 3, experts);
            let choice = ExpertChoice { n_group, topk_group, top_k };
            let bias = biased.then(|| numbers(&mut b, "bias", experts));
            let part = |what: &str, expert: usize, rows: usize, columns: usize| {
                Part::all(format!("{expert}.{what}"), &[rows, columns]).scaled((columns as f32).sqrt().recip())
            };
            let ups = if gated { 2 * hidden } else { hidden };
            let up = b.matrix("up", (0..experts).map(|e| part("up", e, ups, width)).collect());
            let down = b.matrix("down", (0..experts).map(|e| part("down", e, outputs, hidden)).collect());
            let routes = b.moe_route("routes", logits, bias, routing, choice);
            let out = b.moe_apply("out", x, routes, [up, down], experts, function, gated);
            let detail = format!("{} {width} -> {hidden} -> {outputs}, {choice:?} of {experts}", format.name());
            let script = |op, keep| Script::new(op, detail.clone(), b.clone(), &[keep]).weight_format(format);
            cases.push(row_counts(long, script("moe_apply", out)));
            if format == WeightFormat::F32 {
                cases.push(row_counts(long, script("moe_route", routes)));
            }
        }
    }
    cases
}

/// Every filter, alone and together.
fn samplers() -> Vec<(&'static str, Sampler)> {
    let hot = Sampler { temperature: 1.5, ..Sampler::default() };
    let penalties = Sampler { repetition: 1.3, frequency: 0.2, presence: -0.1, ..Sampler::default() };
    vec![
        ("temperature", hot.clone()),
        ("temperature of next to nothing", Sampler { temperature: 1e-39, ..Sampler::default() }),
        ("temperature of very little", Sampler { temperature: 1e-5, top_p: 0.9, ..Sampler::default() }),
        ("top-k", Sampler { top_k: 9, ..hot.clone() }),
        ("top-k of one", Sampler { top_k: 1, ..hot.clone() }),
        ("top-k beyond", Sampler { top_k: 5000, ..hot.clone() }),
        ("top-p", Sampler { top_p: 0.7, ..hot.clone() }),
        ("top-p of next to nothing", Sampler { top_p: 1e-6, ..hot.clone() }),
        ("top-p of next to all", Sampler { top_p: 0.999_99, ..hot.clone() }),
        ("min-p", Sampler { min_p: 0.2, ..hot }),
        ("penalties, greedy", penalties.clone()),
        ("all", Sampler { temperature: 0.8, top_k: 40, top_p: 0.9, min_p: 0.02, ..penalties }),
    ]
}

/// Embedding, gathered rows, logits and sampled tokens that are fed again.
fn outputs() -> Vec<OpCase> {
    let mut cases = vec![];
    for format in FORMATS {
        for (vocabulary, width) in [(97, 13), (333, 64), (2051, 32)] {
            let mut b = GraphBuilder::new();
            let table = b.matrix("table", vec![Part::all("table", &[vocabulary + 2, width])]);
            let hidden = b.embed("hidden", table, 1.0);
            let (add, state) =
                (input_behind(&mut b, "noise", 0, width), StateKind::Conv { channels: width, d_conv: 3 });
            // A memory, so that a token depends on those before it.
            let state = b.state("conv", 0, state);
            let weight = b.vector(Part::all("weight", &[width, 1, 3]));
            let mixed = b.add("mixed", b.whole(hidden), add, 0.5);
            let mixed = b.conv("mixed", b.whole(mixed), weight, None, state, Function::Silu);
            let logits = b.head(b.whole(mixed), table, vocabulary);
            b.sample(logits);
            let detail = |what: &str| format!("{} {width} -> {vocabulary}: {what}", format.name());
            // What is chosen of logits has nothing to do with what they were made from.
            let samplers = if format == WeightFormat::F32 { samplers() } else { vec![] };
            let script = |op, what: &str| {
                Script::new(op, detail(what), b.clone(), &[logits]).weight_format(format).vocabulary(vocabulary)
            };
            let last = script("gather", "last rows").outputs(Outputs::Last);
            cases.push(last.step(&[(0, 7), (2, 1)]).step(&[(1, 65), (0, 2)]).finish());
            let all = script("gather", "all rows").outputs(Outputs::All).step(&[(0, 3), (2, 1)]);
            cases.push(all.outputs(Outputs::None).step(&[(0, 3)]).outputs(Outputs::All).step(&[(1, 64)]).finish());
            let sample = script("sample", "fed again").outputs(Outputs::Last).step(&[(0, 7), (2, 1)]);
            cases.push(sample.decode(&[0]).decode(&[2, 0]).step(&[(1, 5)]).decode(&[1, 2, 0]).finish());
            for (name, sampler) in samplers {
                // All rows of a span choose, the last as its slot says.
                let script = script("sample", name).sampler(&[0, 1], &sampler).outputs(Outputs::All);
                let script = script.step(&[(0, 7), (2, 1)]).outputs(Outputs::Last).step(&[(1, 65)]);
                let script = script.decode(&[0]).decode(&[1, 0]).decode(&[2, 0, 1]).decode(&[0]).decode(&[0, 1]);
                // What a slot has chosen goes with its memory.
                let script = script.copy(0, 2).decode(&[2, 0]).decode(&[1, 2]);
                cases.push(script.sampler(&[0], &sampler).decode(&[0]).finish());
            }
            for temperature in [0.0, 0.9] {
                let sampler = Sampler { temperature, top_k: 9, repetition: 1.2, ..Sampler::default() };
                let sampler = Sampler { top_p: 0.9, biases: vec![(0, 3.0), (5, -4.0), (9, 0.5)], ..sampler };
                let name = if temperature > 0.0 { "masked, drawn" } else { "masked" };
                let script = script("sample", name).outputs(Outputs::All).sampler(&[0, 1], &sampler).mask(&[0]);
                let script = script.step(&[(0, 7), (2, 1)]).outputs(Outputs::Last).mask(&[0, 1]).step(&[(1, 65)]);
                let script = script.decode(&[0]).mask(&[0, 2]).decode(&[1, 0]).decode(&[2, 0, 1]).no_mask(&[0, 2]);
                cases.push(script.decode(&[2, 0, 1]).sampler(&[1], &sampler).decode(&[0, 1]).finish());
            }
            // Two tokens and no more, beside a slot that goes on; then the slot is fed by the host again.
            let limit = Sampler { limit: 2, ..Sampler::default() };
            // What a frozen slot's row computes is nobody's: tokens and memories are compared.
            let script = Script::new("sample", detail("frozen"), b.clone(), &[]).weight_format(format);
            let script = script.vocabulary(vocabulary).outputs(Outputs::Last).sampler(&[0], &limit);
            let script = script.step(&[(0, 7), (2, 1)]).decode(&[0]).frozen(&[0]).frozen(&[0]).decode(&[2]);
            cases.push(script.step(&[(0, 2)]).sampler(&[0], &limit).decode(&[0, 2]).finish());
        }
    }
    cases
}
