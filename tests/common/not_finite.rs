//! What is not finite reaches the host, on every backend in the same way: logits of which none can be chosen, keys and
//! values beyond f16, experts chosen by what is not a number, norms of what has no square, convolutions and functions of what is
//! not a number.

use pollster::block_on;
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::{Backend, Outputs, ProgramId, ProgramSpec, Span, Step, StepTable, Tokens};
use selvedge::graph::ops::{Attention, Gather, KvAppend};
use selvedge::graph::{
    ExpertChoice, Function, Graph, GraphBuilder, KvSpec, NormKind, Part, Routing, RowBlock, Rows, StateKind, ValueId,
    WeightDesc, WeightFormat, WeightId,
};
use selvedge::state::{KvFormat, NO_TOKEN, Sampler, SlotId, StateLayout, StateTensor};

/// Rows of logits are longer than a workgroup has lanes.
const VOCABULARY: usize = 300;
const INFINITY: f32 = f32::INFINITY;

/// A backend with a graph on it, of one input, whose weights are zeros.
struct Loaded<'b> {
    backend: &'b mut dyn Backend,
    layout: StateLayout,
    program: ProgramId,
    input: ValueId,
    /// Next position of each slot.
    positions: [usize; 2],
}

/// Rows of a program of decode, and of one of prefill: kernels differ.
const FEW: usize = 4;
const MANY: usize = 16;

impl<'b> Loaded<'b> {
    fn new(backend: &'b mut dyn Backend, graph: &Graph, keep: Option<ValueId>, kv: KvFormat, rows: usize) -> Self {
        for (index, recipe) in graph.weights.iter().enumerate() {
            let id = WeightId(index as u32);
            let (name, rows, columns, class) = (recipe.name.clone(), recipe.rows, recipe.columns, recipe.class);
            let desc = WeightDesc { name, rows, columns, format: WeightFormat::F32, class };
            backend.create_weight(id, &desc).expect("a weight");
            let bytes = vec![0; 4 * rows * columns];
            block_on(backend.write_weight(id, RowBlock { first: 0, bytes: &bytes })).expect("rows");
        }
        let layout = StateLayout::new(graph, 2, 64, kv);
        backend.allocate(&layout).expect("slots");
        if layout.pages > 0 {
            backend.set_pages(SlotId(0), &[0]).expect("pages");
            backend.set_pages(SlotId(1), &[1]).expect("pages");
        }
        let spec = ProgramSpec { keep: keep.into_iter().collect(), ..ProgramSpec::new(rows, 4) };
        let program = backend.compile(graph, &spec).expect("a program");
        Self { backend, layout, program, input: graph.inputs[0], positions: [0; 2] }
    }

    /// A step of spans of so many rows; `None`: of the slot's own token.
    fn step(&mut self, spans: &[(usize, Option<usize>)], outputs: Outputs, input: &[f32]) -> StepTable {
        let spans = spans.iter().map(|&(slot, rows)| {
            let tokens = rows.map_or(Tokens::Sampled, |rows| Tokens::Given(vec![1; rows]));
            let first = self.positions[slot];
            self.positions[slot] += tokens.len();
            Span { slot: SlotId(slot as u32), first, tokens, outputs }
        });
        let table = StepTable::new(&Step { spans: spans.collect() }, &self.layout).expect("a table");
        self.backend.write(self.program, self.input, input).expect("an input");
        table
    }

    fn sampled(&mut self, spans: &[(usize, Option<usize>)], outputs: Outputs, rows: &[&[f32]]) -> Vec<u32> {
        let table = self.step(spans, outputs, &rows.concat());
        let ticket = self.backend.step(self.program, &table).expect("a step");
        block_on(self.backend.sampled(ticket)).expect("tokens")
    }
}

/// Logits that are the input, but for an embedding of zeros, which reads the slot's own token.
fn logits_graph() -> Graph {
    let mut b = GraphBuilder::new();
    let table = b.matrix("table", vec![Part::all("table", &[VOCABULARY, VOCABULARY])]);
    let (input, hidden) = (b.input("input", VOCABULARY), b.embed("hidden", table, 1.0));
    let x = b.add("sum", b.whole(hidden), b.whole(input), 1.0);
    let logits = b.value("logits", VOCABULARY, Rows::Outputs);
    b.push(Gather { x: b.whole(x), out: logits });
    b.sample(logits);
    b.finish().expect("a graph")
}

/// Logits with the largest at 7, and with what `change` does to them.
fn row(change: impl Fn(&mut [f32])) -> Vec<f32> {
    let mut row: Vec<f32> = (0..VOCABULARY).map(|i| -0.01 * (i as f32 - 7.0).abs()).collect();
    change(&mut row);
    row
}

/// Rows from which nothing can be chosen give no token and freeze their slot, and no other.
pub fn logits(backend: &mut dyn Backend) {
    let graph = logits_graph();
    let drawn = Sampler { temperature: 0.7, top_k: 40, top_p: 0.9, min_p: 0.01, seed: 5, ..Sampler::default() };
    let penalised = Sampler { repetition: 1.3, frequency: 0.5, presence: 0.1, ..Sampler::default() };
    let mut bad = vec![row(|row| row.fill(-INFINITY)), row(|row| row.fill(f32::NAN))];
    for at in [0, 7, 255, 256, VOCABULARY - 1] {
        for x in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), INFINITY] {
            bad.push(row(|row| row[at] = x));
        }
    }
    bad.push(row(|row| (row[3], row[200]) = (-INFINITY, INFINITY)));
    let good = [
        row(|_| {}),
        // Tokens that somebody took out.
        row(|row| row[8..].fill(-INFINITY)),
        row(|row| row[..7].fill(-INFINITY)),
        row(|row| row.iter_mut().enumerate().filter(|(i, _)| *i != 7).for_each(|(_, x)| *x = -INFINITY)),
    ];
    let plain = row(|_| {});
    for sampler in [Sampler::default(), drawn, penalised] {
        let greedy = sampler.is_greedy();
        let rows = bad.iter().map(|row| (row, false)).chain(good.iter().map(|row| (row, true)));
        let mut loaded = Loaded::new(backend, &graph, None, KvFormat::F32, FEW);
        for (i, (row, usable)) in rows.enumerate() {
            let what = format!("row {i} at temperature {}", sampler.temperature);
            for slot in [0, 1] {
                loaded.backend.reset(SlotId(slot)).expect("a slot");
                loaded.backend.set_sampler(SlotId(slot), &sampler, &[3]).expect("a sampler");
            }
            loaded.positions = [0; 2];
            let is_token = |token: u32| if greedy { token == 7 } else { (token as usize) < VOCABULARY };
            let first = loaded.sampled(&[(0, Some(1)), (1, Some(1))], Outputs::Last, &[row, &plain]);
            assert!(if usable { is_token(first[0]) } else { first[0] == NO_TOKEN }, "{what}: {first:?}");
            assert!(is_token(first[1]), "{what}: beside it {first:?}");
            // Steps that were under way.
            for _ in 0..2 {
                let next = loaded.sampled(&[(0, None), (1, None)], Outputs::Last, &[&plain, &plain]);
                assert!(next[1] != NO_TOKEN && (next[0] == NO_TOKEN) != usable, "{what}: then {next:?}");
            }
            // The slot's next text.
            loaded.backend.set_sampler(SlotId(0), &sampler, &[]).expect("a sampler");
            let again = loaded.sampled(&[(0, None)], Outputs::Last, &[&plain]);
            assert!((again[0] as usize) < VOCABULARY, "{what}: at last {again:?}");
        }
        // Rows that choose for the host alone freeze nothing.
        loaded.positions = [0; 2];
        let tokens = loaded.sampled(&[(0, Some(3))], Outputs::All, &[&plain, &bad[2], &plain]);
        assert!(tokens[0] == 7 && tokens[1] == NO_TOKEN && tokens[2] != NO_TOKEN, "{tokens:?}");
        assert_ne!(loaded.sampled(&[(0, None)], Outputs::Last, &[&plain]), [NO_TOKEN]);
    }
}

/// Numbers around the end of f16, and whether it holds them.
const EDGE: [(f32, bool); 10] = [
    (1.0 / 3.0, true),
    (65504.0, true),
    (-65519.99, true),
    (65520.0, false),
    (-65520.0, false),
    (70_000.0, false),
    (-1e30, false),
    (INFINITY, false),
    (-INFINITY, false),
    (f32::NAN, false),
];

/// Keys and values that f16 does not hold are NaN in the pool, and in what attends to them.
pub fn keys_and_values(backend: &mut dyn Backend) {
    const WIDTH: usize = 4;
    let mut b = GraphBuilder::new();
    let input = b.input("input", 3 * WIDTH);
    let [q, k, v] = b.split(input, [WIDTH; 3]);
    let state = b.kv(0, KvSpec { heads: 1, key_width: WIDTH, value_width: WIDTH, pinned: 0, window: None });
    let out = b.value("out", WIDTH, Rows::All);
    b.push(Attention { q, k, v, state, heads: 1, scale: 0.5, window: None, decode_window: None, out });
    b.push(KvAppend { k, v, state });
    let graph = b.finish().expect("a graph");
    // The CPU references too: what is written is the same everywhere, to the bit.
    let mut reference = CpuBackend::reference();
    for backend in [backend, &mut reference as &mut dyn Backend] {
        for (format, rows) in [(KvFormat::F16, FEW), (KvFormat::F32, FEW), (KvFormat::F16, MANY), (KvFormat::F32, MANY)]
        {
            let mut loaded = Loaded::new(backend, &graph, Some(out), format, rows);
            for (x, held) in EDGE {
                for at in [0, 3, 4, 7] {
                    loaded.positions = [0; 2];
                    let mut row = [1.0; 3 * WIDTH];
                    row[WIDTH + at] = x;
                    let table = loaded.step(&[(0, Some(1))], Outputs::None, &row);
                    loaded.backend.step(loaded.program, &table).expect("a step");
                    let saved = block_on(loaded.backend.snapshot(SlotId(0), 1)).expect("a memory");
                    let kept: Vec<f32> = saved.tensors.iter().flat_map(|tensor| &tensor.data).copied().collect();
                    let wanted = match format {
                        KvFormat::F32 => x,
                        KvFormat::F16 if held => half::f16::from_f32(x).to_f32(),
                        KvFormat::F16 => f32::NAN,
                    };
                    assert!(same(kept[at], wanted), "{x} in {format:?} became {}", kept[at]);
                    assert!(kept.iter().enumerate().all(|(i, y)| i == at || *y == 1.0), "{x}: its neighbours");
                    // A query that all keys beyond f16 repel.
                    let mut next = [0.5; 3 * WIDTH];
                    next[..WIDTH].fill(if x < 0.0 { 1.0 } else { -1.0 });
                    let table = loaded.step(&[(0, Some(1))], Outputs::None, &next);
                    loaded.backend.step(loaded.program, &table).expect("a step");
                    let seen = block_on(loaded.backend.read(loaded.program, out, 1)).expect("attention");
                    if format == KvFormat::F16 {
                        let lost = at.saturating_sub(WIDTH);
                        assert_eq!(seen[lost].is_finite(), held, "{x} at {at}: {seen:?}");
                    }
                }
            }
            // Rows of one span see nothing of those behind them.
            loaded.positions = [0; 2];
            let count = rows / 2;
            let mut span: Vec<f32> = (0..count * 3 * WIDTH).map(|i| (i % 7) as f32 - 3.0).collect();
            span[(count - 1) * 3 * WIDTH + WIDTH..].fill(f32::NAN);
            let table = loaded.step(&[(0, Some(count))], Outputs::None, &span);
            loaded.backend.step(loaded.program, &table).expect("a step");
            let seen = block_on(loaded.backend.read(loaded.program, out, count)).expect("attention");
            let (before, last) = seen.split_at((count - 1) * WIDTH);
            assert!(before.iter().all(|y| y.is_finite()) && last.iter().all(|y| y.is_nan()), "{format:?}: {seen:?}");
            // A memory from where they are f32.
            let data = EDGE.iter().flat_map(|(x, _)| [*x; WIDTH]).collect::<Vec<_>>();
            let positions: Vec<u32> = (0..EDGE.len() as u32).collect();
            let mut saved = block_on(loaded.backend.snapshot(SlotId(0), 0)).expect("a memory");
            saved.position = EDGE.len();
            for tensor in &mut saved.tensors {
                let (name, shape) = (tensor.name.clone(), vec![EDGE.len(), 1, WIDTH]);
                *tensor = StateTensor { name, shape, positions: positions.clone(), data: data.clone() };
            }
            loaded.backend.restore(SlotId(1), &saved).expect("it fits");
            let back = block_on(loaded.backend.snapshot(SlotId(1), EDGE.len())).expect("a memory");
            for (i, y) in back.tensors[0].data.iter().enumerate() {
                let (x, held) = EDGE[i / WIDTH];
                assert_eq!(y.is_nan(), x.is_nan() || format == KvFormat::F16 && !held, "{x} came back as {y}");
            }
        }
    }
}

fn same(a: f32, b: f32) -> bool {
    a == b || a.is_nan() && b.is_nan()
}

/// Experts are chosen, each once, whatever their logits are; weights then are not numbers either.
pub fn experts(backend: &mut dyn Backend) {
    const EXPERTS: usize = 12;
    let sigmoid = Routing::Sigmoid { normed: true, epsilon: 1e-20, scale: 1.5 };
    let grouped = ExpertChoice { n_group: 4, topk_group: 2, top_k: 6 };
    let softmax = |normed| (Routing::Softmax { normed }, ExpertChoice::of_all(5));
    for (routing, choice) in [softmax(true), softmax(false), (sigmoid, grouped)] {
        let top_k = choice.top_k;
        let mut b = GraphBuilder::new();
        let input = b.input("logits", EXPERTS);
        let routes = b.moe_route("routes", b.whole(input), None, routing, choice);
        let graph = b.finish().expect("a graph");
        let mut loaded = Loaded::new(backend, &graph, Some(routes), KvFormat::F32, FEW);
        for lost in [vec![0], vec![11], vec![2, 3, 9], (0..EXPERTS).collect()] {
            for x in [f32::NAN, -f32::NAN] {
                let mut row: Vec<f32> = (0..EXPERTS).map(|i| (i * 5 % EXPERTS) as f32).collect();
                lost.iter().for_each(|&expert| row[expert] = x);
                let table = loaded.step(&[(0, Some(1))], Outputs::None, &row);
                loaded.backend.step(loaded.program, &table).expect("a step");
                let routes = block_on(loaded.backend.read(loaded.program, routes, 1)).expect("routes");
                let (ids, weights) = routes.split_at(top_k);
                let mut seen: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
                assert!(seen.iter().any(|id| lost.contains(id)), "{lost:?} are hidden: {routes:?}");
                seen.sort_unstable();
                seen.dedup();
                assert!(seen.len() == top_k && seen.iter().all(|&id| id < EXPERTS), "{routes:?}");
                assert!(weights.iter().any(|weight| !weight.is_finite()), "{routes:?}");
            }
            loaded.positions = [0; 2];
        }
    }
}

/// Norms of numbers whose squares are beyond f32: the right result, where sums are wider, or one that is not finite. A
/// plausible number is neither.
pub fn norms(backend: &mut dyn Backend) {
    const WIDTH: usize = 40;
    for kind in [NormKind::Rms, NormKind::L2, NormKind::Layer] {
        let mut b = GraphBuilder::new();
        let input = b.input("x", WIDTH);
        let x = b.whole(input);
        let out = b.norm("out", x, kind, 1, 1e-6, None, None);
        let graph = b.finish().expect("a graph");
        let mut loaded = Loaded::new(backend, &graph, Some(out), KvFormat::F32, FEW);
        for large in [3e19_f32, 1e30] {
            let row: Vec<f32> = (0..WIDTH).map(|i| if i % 2 == 0 { large } else { -large }).collect();
            let right = if kind == NormKind::L2 { (WIDTH as f32).sqrt().recip() } else { 1.0 };
            let table = loaded.step(&[(0, Some(1))], Outputs::None, &row);
            loaded.backend.step(loaded.program, &table).expect("a step");
            for (i, y) in block_on(loaded.backend.read(loaded.program, out, 1)).expect("a norm").iter().enumerate() {
                let wanted = if i % 2 == 0 { right } else { -right };
                assert!(!y.is_finite() || (y - wanted).abs() < 1e-5, "{kind:?} of {large:e}: {y} in column {i}");
            }
        }
    }
}

/// What is not a number is in the rows and the column of a convolution that take it, of its own slot, and in no others.
pub fn convolutions(backend: &mut dyn Backend) {
    const WIDTH: usize = 8;
    const LOST: usize = 2;
    for (d_conv, before) in [2, 3, 4, 5].into_iter().flat_map(|d_conv| [(d_conv, 0), (d_conv, 1)]) {
        let mut b = GraphBuilder::new();
        let input = b.input("x", before + WIDTH);
        let kernel = b.vector(Part::all("kernel", &[WIDTH, 1, d_conv]));
        let state = b.state("conv", 0, StateKind::Conv { channels: WIDTH, d_conv });
        let x = b.view(input, before, WIDTH);
        let out = b.conv("out", x, kernel, None, state, Function::SquaredRelu);
        let graph = b.finish().expect("a graph");
        let mut loaded = Loaded::new(backend, &graph, Some(out), KvFormat::F32, MANY);
        // Steps of one slot beside the other: its rows that hold what is not a number, and those that take it.
        for (rows, beside, lost) in [(12, 4, vec![3, 11]), (1, 1, vec![]), (11, 3, vec![10]), (9, 7, vec![])] {
            let mut numbers = vec![1.0; (rows + beside) * (before + WIDTH)];
            lost.iter().for_each(|row| numbers[row * (before + WIDTH) + before + LOST] = f32::NAN);
            let taken = |row: usize| lost.iter().any(|&from| (from..from + d_conv).contains(&row));
            let first = loaded.positions[0];
            let remembered = |row: usize| [3, 11, 23].iter().any(|&from| from < first && first + row < from + d_conv);
            let table = loaded.step(&[(0, Some(rows)), (1, Some(beside))], Outputs::None, &numbers);
            loaded.backend.step(loaded.program, &table).expect("a step");
            let got = block_on(loaded.backend.read(loaded.program, out, rows + beside)).expect("a convolution");
            for (at, y) in got.iter().enumerate() {
                let (row, column) = (at / WIDTH, at % WIDTH);
                let wanted = row < rows && column == LOST && (taken(row) || remembered(row));
                assert_eq!(y.is_nan(), wanted, "a kernel of {d_conv}: {y} in row {row} from {first}, column {column}");
            }
        }
        // A slot that begins anew beside one that holds it.
        loaded.backend.reset(SlotId(1)).expect("a slot");
        loaded.positions[1] = 0;
        let table =
            loaded.step(&[(1, Some(MANY))], Outputs::None, &[1.0; MANY * (WIDTH + 1)][..MANY * (before + WIDTH)]);
        loaded.backend.step(loaded.program, &table).expect("a step");
        let got = block_on(loaded.backend.read(loaded.program, out, MANY)).expect("a convolution");
        assert!(got.iter().all(|y| y.is_finite()), "a kernel of {d_conv}: {got:?}");
    }
}

/// What is not a number stays so behind functions that multiply with it, in its own column. A sigmoid alone need not keep
/// it: WGSL lets implementations assume that there are none, and SwiftShader's makes it 0.
pub fn pointwise(backend: &mut dyn Backend) {
    for function in [Function::Identity, Function::Silu, Function::SquaredRelu] {
        for width in [7, 8] {
            let mut b = GraphBuilder::new();
            let input = b.input("x", 2 * width);
            let [x, other] = b.split(input, [width; 2]);
            let gated = b.gate("gated", x, other, function);
            let active = b.activation("active", x, function, 0.5);
            let out = b.add("out", b.whole(gated), b.whole(active), 1.0);
            let graph = b.finish().expect("a graph");
            let mut loaded = Loaded::new(backend, &graph, Some(out), KvFormat::F32, FEW);
            for lost in 0..width {
                loaded.positions = [0; 2];
                let mut row: Vec<f32> = (0..2 * width).map(|i| i as f32 - 3.0).collect();
                row[lost] = f32::NAN;
                let table = loaded.step(&[(0, Some(1))], Outputs::None, &row);
                loaded.backend.step(loaded.program, &table).expect("a step");
                let got = block_on(loaded.backend.read(loaded.program, out, 1)).expect("numbers");
                let is_right = |(column, y): (usize, &f32)| y.is_nan() == (column == lost);
                assert!(got.iter().enumerate().all(is_right), "{function:?} of column {lost}: {got:?}");
            }
        }
    }
}
