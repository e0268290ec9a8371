//! One op alone on a GPU: its median time by the device's own clock, and what it makes of the device.
//!
//!     cargo run --release --example bench_op -- linear rows=1 inputs=4096 outputs=4096 weights=q4 form=quads
//!     cargo run --release --example bench_op -- attention rows=64 depth=4096 heads=32 kv_heads=8 width=128 kv=f16 form=flash
//!
//! Settings that are left out are as above; without a form, the one of many lanes runs. Bytes are those that have to be read or
//! written once, whatever the kernel does, and the share is of the rate at which `add` goes through three values of 64 MiB: about
//! that of a copy on a card, less on a software GPU. What fits a cache may be faster than that. The kernels that ran are named.

use std::collections::BTreeSet;
use std::error::Error;
use std::str::FromStr;

use pollster::block_on;
use selvedge::backend::webgpu::{Form, Measure, WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, Outputs, ProgramSpec, Span, Step, StepTable, Tokens};
use selvedge::formats::Rounding;
use selvedge::graph::ops::{Add, Attention};
use selvedge::graph::{
    Graph, GraphBuilder, KvSpec, Part, RowBlock, Rows, View, WeightClass, WeightDesc, WeightFormat, WeightId,
    WeightSink,
};
use selvedge::state::{KvFormat, SlotId, StateLayout};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Steps before those that are timed.
const WARM: usize = 3;
/// Steps that are timed.
const TIMED: usize = 21;

const SLOT: SlotId = SlotId(0);

/// An op with everything that is needed to run it.
struct Case {
    graph: Graph,
    rows: usize,
    /// Positions before them.
    depth: usize,
    weights: WeightFormat,
    kv: KvFormat,
    /// Floating-point operations.
    operations: f64,
    /// Bytes that are read or written at least.
    bytes: f64,
}

/// Settings of the command line, `name=value`.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let pair = |argument: String| {
            let pair = argument.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            pair.ok_or_else(|| format!("`{argument}` is not NAME=VALUE").into())
        };
        arguments.map(pair).collect::<Result<_>>().map(Self)
    }

    /// Takes the text of a setting.
    fn text(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.remove(place).1)
    }

    fn take<T: FromStr<Err: Error + 'static>>(&mut self, name: &str, default: T) -> Result<T> {
        self.text(name).map_or(Ok(default), |value| value.parse().map_err(|e| format!("{name}: {e}").into()))
    }

    /// Takes one of some values by its name.
    fn choose<T: Copy>(&mut self, name: &str, choices: &[(&str, T)], default: T) -> Result<T> {
        let Some(value) = self.text(name) else { return Ok(default) };
        let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let found = choices.iter().find(|(name, _)| *name == value);
        found.map(|&(_, choice)| choice).ok_or_else(|| format!("{name} is one of {}", names()).into())
    }
}

fn linear(settings: &mut Settings) -> Result<Case> {
    let rows = settings.take("rows", 1)?;
    let (inputs, outputs) = (settings.take("inputs", 4096)?, settings.take("outputs", 4096)?);
    let weights = settings.choose("weights", &WeightFormat::ALL.map(|f| (f.name(), f)), WeightFormat::Q4)?;
    let mut g = GraphBuilder::new();
    let (x, weight) = (g.input("x", inputs), g.matrix("weight", vec![Part::all("weight", &[outputs, inputs])]));
    g.linear("out", x, weight, None);
    Ok(Case {
        graph: g.finish()?,
        rows,
        depth: 0,
        weights,
        kv: KvFormat::F32,
        operations: 2.0 * (rows * inputs * outputs) as f64,
        bytes: (outputs * weights.row_bytes(inputs) + 4 * rows * (inputs + outputs)) as f64,
    })
}

fn attention(settings: &mut Settings) -> Result<Case> {
    let (rows, depth) = (settings.take("rows", 64)?, settings.take("depth", 4096)?);
    let (heads, kv_heads) = (settings.take("heads", 32)?, settings.take("kv_heads", 8)?);
    let width: usize = settings.take("width", 128)?;
    let kv = settings.choose("kv", &[("f32", KvFormat::F32), ("f16", KvFormat::F16)], KvFormat::F16)?;
    let mut g = GraphBuilder::new();
    let [q, k, v] = [("q", heads), ("k", kv_heads), ("v", kv_heads)].map(|(name, heads)| {
        let width = heads * width;
        View::all(g.input(name, width), width)
    });
    let spec = KvSpec { heads: kv_heads, key_width: width, value_width: width, pinned: 0, window: None };
    let (state, out) = (g.kv(0, spec), g.value("out", heads * width, Rows::All));
    let scale = (width as f32).sqrt().recip();
    g.push(Attention { q, k, v, state, heads, scale, window: None, decode_window: None, out });
    // A row sees the positions before the span, and those of the span up to its own.
    let seen = rows * depth + rows * (rows + 1) / 2;
    Ok(Case {
        graph: g.finish()?,
        rows,
        depth,
        weights: WeightFormat::F32,
        kv,
        operations: 4.0 * (heads * width * seen) as f64,
        bytes: (2 * kv_heads * width * (depth * kv.bytes() + 4 * rows) + 2 * 4 * rows * heads * width) as f64,
    })
}

/// Adds two values of 64 MiB to a third.
fn add() -> Result<Case> {
    let (rows, width) = (4096, 4096);
    let mut g = GraphBuilder::new();
    let [a, b] = ["a", "b"].map(|name| View::all(g.input(name, width), width));
    let out = g.value("out", width, Rows::All);
    g.push(Add { a, b, scale: 1.0, out });
    Ok(Case {
        graph: g.finish()?,
        rows,
        depth: 0,
        weights: WeightFormat::F32,
        kv: KvFormat::F32,
        operations: 2.0 * (rows * width) as f64,
        bytes: 12.0 * (rows * width) as f64,
    })
}

/// Numbers between -1 and 1, the same every time.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| number()).collect()
}

/// Puts a graph's weights on the device.
async fn write_weights(backend: &mut WebGpuBackend, case: &Case) -> Result<()> {
    for (index, recipe) in case.graph.weights.iter().enumerate() {
        let (id, name) = (WeightId(index as u32), recipe.name.clone());
        let (rows, columns, format) = (recipe.rows, recipe.columns, case.weights);
        let desc = WeightDesc { name, rows, columns, format, class: WeightClass::Matrix };
        backend.create_weight(id, &desc)?;
        // The same row again and again: only its bytes matter.
        let mut row = vec![0; desc.row_bytes()];
        format.encode(&numbers(columns), Rounding::Absmax, &mut row);
        backend.write_weight(id, RowBlock { first: 0, bytes: &row.repeat(rows) }).await?;
    }
    Ok(())
}

/// The median time of a case in seconds, the adapter, and the kernels that ran.
async fn time(case: &Case, forms: Vec<Form>) -> Result<(f64, String, BTreeSet<&'static str>)> {
    let options =
        WebGpuOptions { self_test: false, measure: Measure::Never, profile: true, forms, ..Default::default() };
    let mut backend = WebGpuBackend::new(&options).await?;
    let Case { graph, rows, depth, kv, .. } = case;
    write_weights(&mut backend, case).await?;
    let layout = StateLayout::new(graph, 1, depth + rows, *kv);
    backend.allocate(&layout)?;
    let pages: Vec<u32> = (0..).take(layout.pages_per_slot()).collect();
    backend.set_pages(SLOT, &pages)?;
    let keep = graph.ops.iter().filter_map(|op| op.writes()).collect();
    let program = backend.compile(graph, &ProgramSpec { rows: *rows, outputs: 0, keep })?;
    for &input in &graph.inputs {
        backend.write(program, input, &numbers(rows * graph.value(input).width))?;
    }
    let span = Span { slot: SLOT, first: *depth, tokens: Tokens::Given(vec![0; *rows]), outputs: Outputs::None };
    let table = StepTable::new(&Step { spans: vec![span] }, &layout)?;
    let (mut times, mut kernels) = (vec![], BTreeSet::new());
    for round in 0..WARM + TIMED {
        backend.step(program, &table)?;
        let measured = backend.kernel_times().await?;
        if round >= WARM {
            times.push(measured.iter().map(|kernel| kernel.seconds).sum());
            kernels.extend(measured.iter().map(|kernel| kernel.kernel));
        }
    }
    times.sort_by(f64::total_cmp);
    let info = backend.info();
    Ok((times[TIMED / 2], format!("{}, {}", info.adapter, info.driver), kernels))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let op = arguments.next().unwrap_or_default();
    let mut settings = Settings::parse(arguments)?;
    let form = settings.text("form").map(|form| form.parse::<Form>()).transpose();
    let forms = form.map_err(|error| error.to_string())?.into_iter().collect();
    let case = match op.as_str() {
        "linear" => linear(&mut settings)?,
        "attention" => attention(&mut settings)?,
        "add" => add()?,
        _ => return Err("usage: bench_op linear|attention|add [NAME=VALUE]…".into()),
    };
    if let Some((name, _)) = settings.0.first() {
        return Err(format!("`{op}` has no setting `{name}`").into());
    }
    let (seconds, device, kernels) = block_on(time(&case, forms))?;
    let through = add()?;
    let (whole, ..) = block_on(time(&through, vec![]))?;
    let (rate, most) = (case.bytes / seconds * 1e-9, through.bytes / whole * 1e-9);
    println!("{device}");
    println!("{}", kernels.into_iter().collect::<Vec<_>>().join(", "));
    println!("{:.1} us, {:.1} GFLOP/s, {rate:.2} GB/s", seconds * 1e6, case.operations / seconds * 1e-9);
    println!("{:.0} % of {most:.2} GB/s", 100.0 * rate / most);
    Ok(())
}
