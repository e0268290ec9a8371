//! One scan alone on a device: its inputs lie there already, a step reads all of them, and nothing else runs.

#![allow(dead_code, reason = "each example uses its own part of this")]

use std::collections::BTreeSet;

use selvedge::backend::{
    Backend, BackendError, Outputs, ProgramId, ProgramSpec, Result, Span, Step, StepTable, Tokens,
};
use selvedge::graph::ops::{GatedDelta, SelectiveScan, SsdScan};
use selvedge::graph::{
    Graph, GraphBuilder, Part, RowBlock, Rows, StateKind, ValueId, View, WeightClass, WeightDesc, WeightFormat,
    WeightId,
};
use selvedge::state::{KvFormat, SlotId, StateLayout};

/// Which scan, and its sizes.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `selective_scan`: inputs x, dt `[rows, channels]`, B, C `[rows, states]`; weights A `[channels, states]`, D.
    Mamba1 { channels: usize, states: usize },
    /// `ssd_scan`: inputs x `[rows, heads * columns]`, dt `[rows, heads]`, B, C `[rows, groups * states]`; weights A,
    /// D, bias of dt `[heads]`.
    Mamba2 { heads: usize, columns: usize, groups: usize, states: usize },
    /// `gated_delta`: inputs q, k `[rows, heads * keys]`, v `[rows, heads * values]`, beta, dt `[rows, heads]`;
    /// weights A, bias of dt `[heads]`.
    GatedDelta { heads: usize, keys: usize, values: usize },
}

/// The graph of nothing but the scan, its inputs and weights in the order that [`Kind`] names.
fn graph(kind: Kind) -> (Graph, ValueId) {
    let mut g = GraphBuilder::new();
    let input = |g: &mut GraphBuilder, name: &str, width| View::all(g.input(name, width), width);
    let vector = |g: &mut GraphBuilder, name: &str, shape: &[usize]| g.vector(Part::all(name, shape));
    let recurrent = |shape: &[usize], channels_last| StateKind::Recurrent { shape: shape.to_vec(), channels_last };
    let out = match kind {
        Kind::Mamba1 { channels, states } => {
            let [x, dt] = ["x", "dt"].map(|name| input(&mut g, name, channels));
            let [b, c] = ["b", "c"].map(|name| input(&mut g, name, states));
            let (a, d) = (vector(&mut g, "a", &[channels, states]), vector(&mut g, "d", &[channels]));
            let state = g.state("state", 0, recurrent(&[channels, states], true));
            let out = g.value("out", channels, Rows::All);
            g.push(SelectiveScan { x, dt, b, c, a, d, state, out });
            out
        }
        Kind::Mamba2 { heads, columns, groups, states } => {
            let (x, dt) = (input(&mut g, "x", heads * columns), input(&mut g, "dt", heads));
            let [b, c] = ["b", "c"].map(|name| input(&mut g, name, groups * states));
            let [a, d, dt_bias] = ["a", "d", "dt_bias"].map(|name| vector(&mut g, name, &[heads]));
            let state = g.state("state", 0, recurrent(&[heads, columns, states], false));
            let out = g.value("out", heads * columns, Rows::All);
            let limit = (0.0, f32::INFINITY);
            g.push(SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, out });
            out
        }
        Kind::GatedDelta { heads, keys, values } => {
            let [q, k] = ["q", "k"].map(|name| input(&mut g, name, heads * keys));
            let v = input(&mut g, "v", heads * values);
            let [beta, dt] = ["beta", "dt"].map(|name| input(&mut g, name, heads));
            let [a, dt_bias] = ["a", "dt_bias"].map(|name| vector(&mut g, name, &[heads]));
            let state = g.state("state", 0, recurrent(&[heads, keys, values], true));
            let (out, scale) = (g.value("out", heads * values, Rows::All), (keys as f32).sqrt().recip());
            g.push(GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads: heads, state, out });
            out
        }
    };
    (g.finish().expect("a graph of one op"), out)
}

/// A scan on a device, ready to run over as many rows as programs were made for.
pub struct Alone {
    backend: Box<dyn Backend>,
    graph: Graph,
    out: ValueId,
    layout: StateLayout,
}

/// A scan over some rows, whose inputs lie on the device.
#[derive(Clone)]
pub struct Rehearsed {
    program: ProgramId,
    table: StepTable,
}

const SLOT: SlotId = SlotId(0);

impl Alone {
    /// Puts the weights on the device, each as `make(name, numbers)` gives it.
    pub async fn new(
        mut backend: Box<dyn Backend>,
        kind: Kind,
        most_rows: usize,
        mut make: impl FnMut(&str, usize) -> Vec<f32>,
    ) -> Result<Self> {
        let (graph, out) = graph(kind);
        for (index, recipe) in graph.weights.iter().enumerate() {
            let (rows, columns, name) = (recipe.rows, recipe.columns, recipe.name.clone());
            let bytes: Vec<u8> = make(&name, rows * columns).into_iter().flat_map(f32::to_le_bytes).collect();
            let (class, format, id) = (WeightClass::Vector, WeightFormat::F32, WeightId(index as u32));
            backend.create_weight(id, &WeightDesc { name, rows, columns, format, class })?;
            backend.write_weight(id, RowBlock { first: 0, bytes: &bytes }).await?;
        }
        let layout = StateLayout::new(&graph, 1, most_rows, KvFormat::F32);
        backend.allocate(&layout)?;
        Ok(Self { backend, graph, out, layout })
    }

    /// Adapter and driver.
    pub fn device(&self) -> String {
        let info = self.backend.info();
        format!("{}, {}", info.adapter, info.driver)
    }

    /// Compiles the scan over `rows` rows and puts its inputs on the device, each as `make(name, numbers)` gives it.
    pub fn rehearse(&mut self, rows: usize, mut make: impl FnMut(&str, usize) -> Vec<f32>) -> Result<Rehearsed> {
        let spec = ProgramSpec { rows, outputs: 0, keep: BTreeSet::from([self.out]) };
        let program = self.backend.compile(&self.graph, &spec)?;
        for &input in &self.graph.inputs {
            let value = self.graph.value(input);
            self.backend.write(program, input, &make(&value.name, rows * value.width))?;
        }
        let span = Span { slot: SLOT, first: 0, tokens: Tokens::Given(vec![0; rows]), outputs: Outputs::None };
        let table = StepTable::new(&Step { spans: vec![span] }, &self.layout);
        Ok(Rehearsed { program, table: table.map_err(|e| BackendError::Misuse(e.to_string()))? })
    }

    /// Runs the scan `times` times, one step each, and waits for the last: its first row comes back to the host.
    /// The state goes on from run to run.
    pub async fn run(&mut self, scan: &Rehearsed, times: usize) -> Result<()> {
        for _ in 0..times {
            self.backend.step(scan.program, &scan.table)?;
        }
        self.backend.read(scan.program, self.out, 1).await.map(drop)
    }

    /// Result of the scan from an empty state: `f32 [rows, width]`.
    pub async fn result(&mut self, scan: &Rehearsed) -> Result<Vec<f32>> {
        self.backend.reset(SLOT)?;
        self.backend.step(scan.program, &scan.table)?;
        self.backend.read(scan.program, self.out, scan.table.rows.len()).await
    }
}

/// Numbers of a size that a model's are of, the same every time: steps and decays as they are learned, the rest
/// between -1 and 1, keys and queries of a length of about 1.
pub fn plausible(name: &str, count: usize, keys: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut unit = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let number = |u: f32| match name {
        "a" => -1.0 - 15.0 * u,
        "dt" => -4.6 + 2.3 * u,
        "dt_bias" => 0.0,
        "q" | "k" => (2.0 * u - 1.0) * (3.0 / keys as f32).sqrt(),
        _ => 2.0 * u - 1.0,
    };
    (0..count).map(|_| number(unit())).collect()
}
