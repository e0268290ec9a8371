//! What backends refuse: every call that contradicts an earlier one is an error, and changes nothing.

use pollster::block_on;
use proptest::prelude::*;
use selvedge::backend::{
    Backend, BackendError, Outputs, ProgramId, ProgramSpec, Span, Step, StepTable, TOKEN_OF_SLOT, Ticket, Tokens,
};
use selvedge::graph::ops::{Attention, KvAppend};
use selvedge::graph::{
    Function, Graph, GraphBuilder, KvSpec, Part, RowBlock, Rows, StateKind, ValueId, WeightClass, WeightDesc,
    WeightFormat, WeightId,
};
use selvedge::state::{KvFormat, SlotId, SlotState, StateLayout};

use super::Random;

/// Makes a backend on which nothing has happened.
pub type Open = fn() -> Box<dyn Backend>;

const VOCABULARY: usize = 11;
const WIDTH: usize = 8;
const PINNED: usize = 2;

/// Embedding, convolution, a windowed and a global attention, logits, sampling.
fn model() -> Graph {
    let mut b = GraphBuilder::new();
    let table = b.matrix("table", vec![Part::all("table", &[VOCABULARY, WIDTH])]);
    let x = b.embed("x", table, 1.0);
    let conv = b.state("conv", 0, StateKind::Conv { channels: WIDTH, d_conv: 3 });
    let weight = b.vector(Part::all("weight", &[WIDTH, 1, 3]));
    let mut x = b.conv("convolved", b.whole(x), weight, None, conv, Function::Silu);
    for (layer, window) in [(0, Some(4)), (1, None)] {
        let spec = KvSpec { heads: 1, key_width: WIDTH, value_width: WIDTH, pinned: PINNED, window };
        let state = b.kv(layer, spec);
        let (view, out) = (b.whole(x), b.value(format!("attention.{layer}"), WIDTH, Rows::All));
        let (q, k, v) = (view, view, view);
        b.push(Attention { q, k, v, state, heads: 1, scale: 0.3, window, decode_window: window, out });
        b.push(KvAppend { k, v, state });
        x = out;
    }
    let logits = b.head(b.whole(x), table, VOCABULARY);
    b.sample(logits);
    b.finish().expect("a valid graph")
}

/// The model on a backend, two slots of 40 positions, the pinned ones read.
fn loaded(open: Open) -> (Box<dyn Backend>, ProgramId, StateLayout) {
    let (mut backend, graph) = (open(), model());
    for (index, recipe) in graph.weights.iter().enumerate() {
        let (id, desc) = (WeightId(index as u32), desc(&recipe.name, recipe.class, recipe.rows, recipe.columns));
        backend.create_weight(id, &desc).expect("a weight");
        let numbers = Random::new(&recipe.name).normals(recipe.len(), 1.0);
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        block_on(backend.write_weight(id, RowBlock { first: 0, bytes: &bytes })).expect("rows");
    }
    let layout = StateLayout::new(&graph, 2, 40, KvFormat::F32);
    backend.allocate(&layout).expect("slots");
    backend.set_pages(SlotId(0), &[1]).expect("pages");
    let program = backend.compile(&graph, &ProgramSpec::new(16, 4)).expect("a program");
    run(&mut *backend, program, &layout, layout.initial_slot(), 0, Tokens::Given(vec![1, 2]))
        .expect("the pinned positions");
    for slot in [SlotId(0), SlotId(1)] {
        backend.reset(slot).expect("a slot");
    }
    (backend, program, layout)
}

fn desc(name: &str, class: WeightClass, rows: usize, columns: usize) -> WeightDesc {
    WeightDesc { name: name.into(), rows, columns, format: WeightFormat::F32, class }
}

fn table(layout: &StateLayout, slot: SlotId, first: usize, tokens: Tokens) -> StepTable {
    let step = Step { spans: vec![Span { slot, first, tokens, outputs: Outputs::Last }] };
    StepTable::new(&step, layout).expect("a step that fits its layout")
}

fn run(
    backend: &mut dyn Backend,
    program: ProgramId,
    layout: &StateLayout,
    slot: SlotId,
    first: usize,
    tokens: Tokens,
) -> Result<Ticket, BackendError> {
    backend.step(program, &table(layout, slot, first, tokens))
}

/// The message of a refusal.
#[track_caller]
fn refused<T>(result: Result<T, BackendError>) -> String {
    match result {
        Err(BackendError::Misuse(message)) => message,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was allowed"),
    }
}

/// Steps that do not fit their program, slots or tables.
pub fn steps(open: Open) {
    let (mut backend, program, layout) = loaded(open);
    let slot = SlotId(0);
    let mut step = |slot, first, tokens| refused(run(&mut *backend, program, &layout, slot, first, tokens));
    let given = |ids: &[u32]| Tokens::Given(ids.to_vec());
    assert_eq!(step(slot, 2, given(&[3, 11])), "token 11 in a table of 11");
    assert_eq!(step(slot, 2, Tokens::Sampled), "no token was sampled in slot 0");
    assert_eq!(step(SlotId(1), 2, given(&[3])), "3 positions in slot 1, which has 0 pages");
    assert_eq!(step(layout.initial_slot(), 2, given(&[3])), "position 2 in the initial state");
    assert_eq!(step(slot, 2, given(&[3; 17])), "a step of 17 rows and 1 outputs for a program of (16, 4)");
    refused(backend.step(ProgramId(7), &table(&layout, slot, 2, given(&[3]))));

    // Nothing of this left a trace.
    let before = block_on(backend.snapshot(slot, 2)).expect("a memory");
    assert_eq!(before, block_on(loaded(open).0.snapshot(slot, 2)).expect("a memory"));
    let ticket = run(&mut *backend, program, &layout, slot, 2, given(&[3])).expect("a step that fits");
    let tokens = block_on(backend.sampled(ticket)).expect("a token");
    assert_eq!(tokens.len(), 1);
    refused(block_on(backend.sampled(ticket)));
    run(&mut *backend, program, &layout, slot, 3, Tokens::Sampled).expect("a token was sampled");
}

/// Values that are not kept, or have fewer rows.
pub fn values(open: Open) {
    let (mut backend, program, layout) = loaded(open);
    run(&mut *backend, program, &layout, SlotId(0), 2, Tokens::Given(vec![3])).expect("a step that fits");
    let graph = model();
    let logits = graph.logits.expect("logits");
    assert_eq!(block_on(backend.read(program, logits, 1)).expect("logits").len(), VOCABULARY);
    refused(block_on(backend.read(program, logits, 5)));
    refused(block_on(backend.read(program, graph.find("x").expect("a value"), 1)));
    refused(block_on(backend.read(program, ValueId(99), 1)));
    refused(backend.write(program, logits, &[0.0; VOCABULARY]));
}

/// Weights that were not created, or as something else.
pub fn weights(open: Open) {
    let (mut backend, program, layout) = loaded(open);
    let id = WeightId(0);
    for (first, bytes) in [(0, 31), (11, 32), (10, 64), (usize::MAX, 32)] {
        refused(block_on(backend.write_weight(id, RowBlock { first, bytes: &vec![0; bytes] })));
    }
    refused(block_on(backend.write_weight(WeightId(9), RowBlock { first: 0, bytes: &[0; 32] })));
    for (rows, columns) in [(1 << 60, 1 << 60), (1 << 40, 1 << 20)] {
        let error = backend
            .create_weight(id, &desc("huge", WeightClass::Matrix, rows, columns))
            .expect_err("more than there is");
        assert!(matches!(error, BackendError::OutOfMemory { .. } | BackendError::Limit { .. }), "{error}");
    }
    // Another shape than the recipe's; and the programs made for the old one are gone.
    backend.create_weight(id, &desc("table", WeightClass::Matrix, VOCABULARY, WIDTH - 1)).expect("a weight");
    let message = refused(backend.compile(&model(), &ProgramSpec::new(1, 1)));
    assert_eq!(message, "weight `table` was created as [11, 7], its recipe says [11, 8]");
    refused(run(&mut *backend, program, &layout, SlotId(0), 2, Tokens::Given(vec![3])));
}

/// Slots and pages that are not there.
pub fn slots(open: Open) {
    let (mut backend, _, layout) = loaded(open);
    refused(backend.set_pages(SlotId(0), &[2]));
    refused(backend.set_pages(SlotId(3), &[]));
    refused(backend.reset(SlotId(3)));
    refused(block_on(backend.snapshot(SlotId(0), 41)));
    refused(block_on(backend.snapshot(SlotId(1), 3)));
    let mut other = layout.clone();
    other.states.pop();
    backend.allocate(&other).expect("slots");
    refused(backend.compile(&model(), &ProgramSpec::new(1, 1)));
}

/// Memories that are not of this layout.
pub fn memories(open: Open) {
    let (mut backend, program, layout) = loaded(open);
    let slot = SlotId(0);
    run(&mut *backend, program, &layout, slot, 2, Tokens::Given(vec![3, 4, 5, 6, 7, 8, 9])).expect("a step that fits");
    let whole = block_on(backend.snapshot(slot, 9)).expect("a memory");
    let keys = whole.tensor("layers.0.kv.k").expect("keys");
    assert_eq!(keys.positions, [0, 1, 5, 6, 7, 8], "the pinned positions and the window");
    assert_eq!(keys.shape, [6, 1, WIDTH]);

    let mut faults: Vec<(&str, SlotState)> = vec![];
    let mut fault = |what, change: &dyn Fn(&mut SlotState)| {
        let mut state = whole.clone();
        change(&mut state);
        faults.push((what, state));
    };
    fault("`layers.1.kv.v`", &|state| drop(state.tensors.pop()));
    fault("`conv`", &|state| state.tensors[0].shape = vec![WIDTH, 2]);
    fault("`conv`", &|state| {
        state.tensors[0].data.pop();
    });
    fault("position 8", &|state| {
        let keys = &mut state.tensors[1];
        keys.positions.pop();
        keys.shape[0] -= 1;
        keys.data.truncate(5 * WIDTH);
    });
    fault("position", &|state| state.tensors[1].positions.reverse());
    fault("context", &|state| state.position = 41);
    fault("do not ascend", &|state| state.tensors[1].positions[5] = 7);
    fault("must be", &|state| state.tensors[0].shape = vec![usize::MAX, 2]);
    fault("top-p of 2", &|state| state.sampler.sampler.top_p = 2.0);
    fault("counts 0 tokens", &|state| state.sampler.sampler.presence = 1.0);
    fault("counts 1 tokens", &|state| state.sampler.counts = vec![0]);
    fault("chose token 11 of 11", &|state| state.sampler.last = Some(11));
    for (what, state) in faults {
        let message = refused(backend.restore(slot, &state));
        assert!(message.contains(what), "{message}");
        assert_eq!(block_on(backend.snapshot(slot, 9)).expect("a memory"), whole, "{message}: it changed the slot");
    }
    refused(backend.restore(SlotId(1), &whole));
    backend.set_pages(SlotId(1), &[0]).expect("a page");
    backend.restore(SlotId(1), &whole).expect("a memory that fits");
    assert_eq!(block_on(backend.snapshot(SlotId(1), 9)).expect("a memory"), whole);
}

/// Whatever words a step table holds, a step is run or refused; it is never fatal.
pub fn tables(open: Open) {
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let change = (0..3_usize, any::<u16>(), 0..4_usize, 0..12_u32, any::<bool>());
    proptest!(config, |(changes in proptest::collection::vec(change, 1..4))| {
        let (mut backend, program, layout) = loaded(open);
        let given = |slot, ids: &[u32]| Span {
            slot,
            first: 2,
            tokens: Tokens::Given(ids.to_vec()),
            outputs: Outputs::All,
        };
        backend.set_pages(SlotId(1), &[0]).expect("a page");
        let step = Step { spans: vec![given(SlotId(1), &[3]), given(SlotId(0), &[4, 5])] };
        let mut table = StepTable::new(&step, &layout).expect("a step that fits its layout");
        for (part, index, word, value, huge) in changes {
            let value = if huge { TOKEN_OF_SLOT - value } else { value };
            let index = usize::from(index);
            match part {
                0 => { let len = table.rows.len(); table.rows[index % len][word] = value }
                1 => { let len = table.spans.len(); table.spans[index % len][word] = value }
                _ => { let len = table.outputs.len(); table.outputs[index % len] = value }
            }
        }
        match backend.step(program, &table) {
            Ok(ticket) => prop_assert_eq!(block_on(backend.sampled(ticket)).expect("tokens").len(), 3),
            Err(error) => prop_assert!(matches!(error, BackendError::Misuse(_)), "{}", error),
        }
    });
}
