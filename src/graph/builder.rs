//! Building a graph: values, weights and states. The methods that append an op lie in the op's file, `ops/`; every one
//! names its result and returns it.

use super::{
    Graph, GraphError, KvSpec, Op, Rotary, RotaryId, Rows, StateId, StateKind, StateSpec, Value, ValueId, View,
    WeightClass, WeightId, WeightRecipe,
};

/// A graph in the making. [`GraphBuilder::finish`] checks it.
#[derive(Clone, Default)]
pub struct GraphBuilder {
    pub(super) graph: Graph,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new value.
    pub fn value(&mut self, name: impl Into<String>, width: usize, rows: Rows) -> ValueId {
        self.graph.values.push(Value { name: name.into(), width, rows });
        ValueId(self.graph.values.len() as u32 - 1)
    }

    /// A value that is written from outside.
    pub fn input(&mut self, name: impl Into<String>, width: usize) -> ValueId {
        let id = self.value(name, width, Rows::All);
        self.graph.inputs.push(id);
        id
    }

    /// A new weight.
    pub fn weight(&mut self, recipe: WeightRecipe) -> WeightId {
        self.graph.weights.push(recipe);
        WeightId(self.graph.weights.len() as u32 - 1)
    }

    /// A matrix made of parts.
    pub fn matrix(&mut self, name: impl Into<String>, parts: Vec<super::Part>) -> WeightId {
        self.weight(WeightRecipe::new(name, WeightClass::Matrix, parts))
    }

    /// An embedding or a head made of parts.
    pub fn embedding(&mut self, name: impl Into<String>, parts: Vec<super::Part>) -> WeightId {
        self.weight(WeightRecipe::new(name, WeightClass::Embedding, parts))
    }

    /// A matrix that is never quantised, made of parts.
    pub fn high_precision(&mut self, name: impl Into<String>, parts: Vec<super::Part>) -> WeightId {
        self.weight(WeightRecipe::new(name, WeightClass::HighPrecision, parts))
    }

    /// A vector (or a small f32 table) made of one part.
    pub fn vector(&mut self, part: super::Part) -> WeightId {
        self.weight(WeightRecipe::new(part.tensor.clone(), WeightClass::Vector, vec![part]))
    }

    /// New memory.
    pub fn state(&mut self, name: impl Into<String>, layer: usize, kind: StateKind) -> StateId {
        self.graph.states.push(StateSpec { name: name.into(), layer, kind });
        StateId(self.graph.states.len() as u32 - 1)
    }

    /// New KV memory.
    pub fn kv(&mut self, layer: usize, spec: KvSpec) -> StateId {
        self.state(format!("layers.{layer}.kv"), layer, StateKind::Kv(spec))
    }

    /// A rotary embedding; equal ones are shared.
    pub fn rotary(&mut self, rotary: Rotary) -> RotaryId {
        let known = self.graph.rotaries.iter().position(|r| *r == rotary);
        let index = known.unwrap_or_else(|| {
            self.graph.rotaries.push(rotary);
            self.graph.rotaries.len() - 1
        });
        RotaryId(index as u32)
    }

    /// The whole of a value.
    pub fn whole(&self, value: ValueId) -> View {
        self.graph.whole(value)
    }

    /// Columns of a value.
    pub fn view(&self, value: ValueId, offset: usize, width: usize) -> View {
        View { value, offset, width }
    }

    /// Consecutive views of the given widths.
    pub fn split<const N: usize>(&self, value: ValueId, widths: [usize; N]) -> [View; N] {
        let mut offset = 0;
        widths.map(|width| {
            let view = View { value, offset, width };
            offset += width;
            view
        })
    }

    /// Appends an op as it is.
    pub fn push(&mut self, op: impl Into<Op>) {
        self.graph.ops.push(op.into());
    }

    pub(super) fn rows_of(&self, view: View) -> Rows {
        self.graph.value(view.value).rows
    }

    /// A graph in the making over the same weights, states and rotaries, with no value and no op yet: what runs beside this
    /// one, such as the [`Draft`](crate::arch::Draft) of a model.
    pub fn beside(&self) -> Self {
        let Graph { weights, states, rotaries, .. } = self.graph.clone();
        Self { graph: Graph { weights, states, rotaries, ..Graph::default() } }
    }

    /// Takes over the weights, states and rotaries of a graph that was begun [`beside`](Self::beside) this one and has more
    /// of them: both then run on what is loaded and allocated for either.
    pub fn share(&mut self, other: &Self) {
        let Graph { weights, states, rotaries, .. } = other.graph.clone();
        self.graph = Graph { weights, states, rotaries, ..std::mem::take(&mut self.graph) };
    }

    /// The checked graph.
    pub fn finish(self) -> Result<Graph, GraphError> {
        self.graph.validate()?;
        Ok(self.graph)
    }
}
