//! Writes a case: random weights, random inputs, and steps whose positions follow from what came before.

use std::collections::BTreeSet;

use selvedge::backend::{Outputs, Span, Step, Tokens};
use selvedge::formats::Rounding;
use selvedge::graph::{GraphBuilder, ValueId, WeightClass, WeightDesc, WeightFormat, WeightRecipe};
use selvedge::state::{KvFormat, Sampler, SlotId, StateLayout};

use super::{Action, OpCase, Random};

/// A case being written.
pub struct Script {
    case: OpCase,
    random: Random,
    /// Next position of every slot and of the initial state.
    positions: Vec<usize>,
    /// Ids below this are fed; 1 where the graph has no embedding.
    vocabulary: usize,
    outputs: Outputs,
    /// Scale of the inputs.
    scale: f32,
}

impl Script {
    /// A case with three slots of 520 positions each, if nothing else is said. `keep` is compared after every step.
    pub fn new(op: &'static str, detail: impl Into<String>, builder: GraphBuilder, keep: &[ValueId]) -> Self {
        let (detail, graph) = (detail.into(), builder.finish().expect("a valid graph"));
        let layout = StateLayout::new(&graph, 3, 520, KvFormat::F32);
        let mut random = Random::new(&format!("{op} {detail}"));
        let weights = graph.weights.iter().map(|recipe| weight(recipe, WeightFormat::F32, &mut random)).collect();
        let keep: BTreeSet<ValueId> = keep.iter().copied().collect();
        let case = OpCase { op, detail, graph, weights, layout, pages: vec![], actions: vec![], keep, tolerance: 2e-6 };
        Self { case, random, positions: vec![0; 4], vocabulary: 1, outputs: Outputs::None, scale: 1.0 }
            .kv_format(KvFormat::F32)
    }

    /// Stores matrices in a format.
    pub fn weight_format(mut self, format: WeightFormat) -> Self {
        let Self { case, random, .. } = &mut self;
        case.weights = case.graph.weights.iter().map(|recipe| weight(recipe, format, random)).collect();
        self
    }

    /// Gives slots more positions, with keys and values in f32.
    pub fn context(mut self, positions: usize) -> Self {
        self.case.layout.context = positions;
        self.kv_format(KvFormat::F32)
    }

    /// Stores keys and values in a format. Pages are given out in a random order.
    pub fn kv_format(mut self, format: KvFormat) -> Self {
        let layout = StateLayout::new(&self.case.graph, 3, self.case.layout.context, format);
        let pages = self.random.shuffled(layout.pages);
        self.case.pages = pages.chunks(layout.pages_per_slot()).map(<[u32]>::to_vec).collect();
        self.case.layout = layout;
        self
    }

    /// Allows a larger difference than the usual 2e-6.
    pub fn tolerance(mut self, tolerance: f32) -> Self {
        self.case.tolerance = tolerance;
        self
    }

    /// Makes inputs larger or smaller than usual.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = scale;
        self
    }

    /// Feeds ids below `vocabulary`.
    pub fn vocabulary(mut self, vocabulary: usize) -> Self {
        self.vocabulary = vocabulary;
        self
    }

    /// Wants logits of the following steps.
    pub fn outputs(mut self, outputs: Outputs) -> Self {
        self.outputs = outputs;
        self
    }

    /// A step with spans of these lengths.
    pub fn step(self, lengths: &[(u32, usize)]) -> Self {
        self.spans(lengths.iter().map(|&(slot, length)| (SlotId(slot), length)).collect(), false)
    }

    /// A step that feeds every slot its last sampled token.
    pub fn decode(self, slots: &[u32]) -> Self {
        self.spans(slots.iter().map(|&slot| (SlotId(slot), 1)).collect(), true)
    }

    /// Tells slots how to choose: each with a seed of its own, and with some ids seen.
    pub fn sampler(mut self, slots: &[u32], sampler: &Sampler) -> Self {
        for &slot in slots {
            let sampler = Sampler { seed: self.random.next(), ..sampler.clone() };
            let seen = (0..5).map(|_| self.random.below(self.vocabulary) as u32).collect();
            self.case.actions.push(Action::Sampler(SlotId(slot), sampler, seen));
        }
        self
    }

    /// Leaves slots a part of the tokens, one that is theirs.
    pub fn mask(mut self, slots: &[u32]) -> Self {
        let words = self.vocabulary.div_ceil(32);
        for &slot in slots {
            let mask = (0..words).map(|_| self.random.next() as u32 & self.random.next() as u32).collect::<Vec<_>>();
            // The first token stays, so that one is left.
            let mask = mask.iter().enumerate().map(|(at, word)| word | u32::from(at == 0)).collect();
            self.case.actions.push(Action::Mask(SlotId(slot), Some(mask)));
        }
        self
    }

    /// Leaves slots all tokens.
    pub fn no_mask(mut self, slots: &[u32]) -> Self {
        self.case.actions.extend(slots.iter().map(|&slot| Action::Mask(SlotId(slot), None)));
        self
    }

    /// A step that feeds finished slots their last token: they stay where they are.
    pub fn frozen(mut self, slots: &[u32]) -> Self {
        let before = self.positions.clone();
        self = self.decode(slots);
        self.positions = before;
        self
    }

    /// Reads the pinned positions into the initial state and begins every slot from there.
    pub fn prefix_tokens(mut self, length: usize) -> Self {
        let initial = self.case.layout.initial_slot();
        self = self.spans(vec![(initial, length)], false);
        for slot in 0..initial.0 {
            self.case.actions.push(Action::Reset(SlotId(slot)));
            self.positions[slot as usize] = length;
        }
        self
    }

    /// Continues one slot's memory in another.
    pub fn copy(mut self, from: u32, to: u32) -> Self {
        let position = self.positions[from as usize];
        self.case.actions.push(Action::Move(SlotId(from), position, SlotId(to)));
        self.positions[to as usize] = position;
        self
    }

    fn spans(mut self, spans: Vec<(SlotId, usize)>, sampled: bool) -> Self {
        let mut step = Step::default();
        for (slot, length) in spans {
            let position = &mut self.positions[slot.0 as usize];
            let ids = (0..length).map(|_| self.random.below(self.vocabulary) as u32).collect();
            let tokens = if sampled { Tokens::Sampled } else { Tokens::Given(ids) };
            let outputs = if slot == self.case.layout.initial_slot() { Outputs::None } else { self.outputs };
            step.spans.push(Span { slot, first: *position, tokens, outputs });
            *position += length;
        }
        let Self { case, random, scale, .. } = &mut self;
        let input = |&id: &ValueId| random.normals(step.rows() * case.graph.value(id).width, *scale);
        let inputs = case.graph.inputs.iter().map(input).collect();
        case.actions.push(Action::Step(step, inputs));
        self
    }

    /// The case, with every slot's memory exported at the end.
    pub fn finish(mut self) -> OpCase {
        if !self.case.graph.states.is_empty() {
            for (slot, &position) in self.positions.iter().take(3).enumerate() {
                self.case.actions.push(Action::Snapshot(SlotId(slot as u32), position));
            }
        }
        self.case
    }
}

/// A random weight: what a checkpoint might hold, changed as its recipe says.
fn weight(recipe: &WeightRecipe, format: WeightFormat, random: &mut Random) -> (WeightDesc, Vec<u8>) {
    let format = match format {
        _ if recipe.class == WeightClass::Vector => WeightFormat::F32,
        WeightFormat::Quantised(format) if !format.holds(recipe.columns) => WeightFormat::Q8,
        format => format,
    };
    let mut bytes = Vec::with_capacity(recipe.rows * format.row_bytes(recipe.columns));
    for part in &recipe.parts {
        for _ in part.rows.clone() {
            let row = (0..part.columns()).map(|_| part.map.apply(random.normal()) * part.scale);
            let (row, at) = (row.collect::<Vec<f32>>(), bytes.len());
            bytes.resize(at + format.row_bytes(recipe.columns), 0);
            assert!(format.encode(&row, Rounding::Absmax, &mut bytes[at..]), "noise is finite");
        }
    }
    let (name, rows, columns, class) = (recipe.name.clone(), recipe.rows, recipe.columns, recipe.class);
    let desc = WeightDesc { name, rows, columns, format, class };
    (desc, bytes)
}

impl std::fmt::Display for OpCase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:15} {}", self.op, self.detail))
    }
}
