//! Building a graph op by op. Every method names its result and returns it.

use super::{
    Function, Graph, GraphError, KvSpec, NormKind, Op, Rotary, RotaryId, Routing, Rows, StateId, StateKind, StateSpec,
    Value, ValueId, View, WeightClass, WeightId, WeightRecipe,
};

/// A graph in the making. [`GraphBuilder::finish`] checks it.
#[derive(Clone, Default)]
pub struct GraphBuilder {
    graph: Graph,
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
    pub fn table(&mut self, name: impl Into<String>, parts: Vec<super::Part>) -> WeightId {
        self.weight(WeightRecipe::new(name, WeightClass::Table, parts))
    }

    /// A matrix that is never quantised, made of parts.
    pub fn fine(&mut self, name: impl Into<String>, parts: Vec<super::Part>) -> WeightId {
        self.weight(WeightRecipe::new(name, WeightClass::Fine, parts))
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
    pub fn push(&mut self, op: Op) {
        self.graph.ops.push(op);
    }

    fn rows_of(&self, view: View) -> Rows {
        self.graph.value(view.value).rows
    }

    /// See [`Op::Embed`].
    pub fn embed(&mut self, name: impl Into<String>, table: WeightId, scale: f32) -> ValueId {
        let out = self.value(name, self.graph.weight(table).columns, Rows::All);
        self.push(Op::Embed { table, scale, out });
        out
    }

    /// RMS norm over all columns.
    pub fn rms_norm(&mut self, name: impl Into<String>, x: View, weight: WeightId, eps: f32) -> ValueId {
        self.norm(name, x, NormKind::Rms, 1, eps, Some(weight), None)
    }

    /// See [`Op::Norm`].
    pub fn norm(
        &mut self,
        name: impl Into<String>,
        x: View,
        kind: NormKind,
        groups: usize,
        eps: f32,
        weight: Option<WeightId>,
        bias: Option<WeightId>,
    ) -> ValueId {
        let out = self.value(name, x.width, self.rows_of(x));
        self.push(Op::Norm { x, kind, groups, eps, weight, bias, out });
        out
    }

    /// See [`Op::Linear`]; as wide as the weight has rows.
    pub fn linear(&mut self, name: impl Into<String>, x: ValueId, weight: WeightId, bias: Option<WeightId>) -> ValueId {
        let rows = self.graph.weight(weight).rows;
        self.linear_rows(name, x, weight, bias, rows)
    }

    /// See [`Op::Linear`]; uses the first `width` rows of the weight.
    pub fn linear_rows(
        &mut self,
        name: impl Into<String>,
        x: ValueId,
        weight: WeightId,
        bias: Option<WeightId>,
        width: usize,
    ) -> ValueId {
        let out = self.value(name, width, self.graph.value(x).rows);
        self.push(Op::Linear { x, weight, bias, out });
        out
    }

    /// See [`Op::Gate`].
    pub fn gate(&mut self, name: impl Into<String>, gate: View, x: View, function: Function) -> ValueId {
        let out = self.value(name, x.width, self.rows_of(x));
        self.push(Op::Gate { gate, x, function, out });
        out
    }

    /// See [`Op::Activation`].
    pub fn activation(&mut self, name: impl Into<String>, x: View, function: Function, scale: f32) -> ValueId {
        let out = self.value(name, x.width, self.rows_of(x));
        self.push(Op::Activation { x, function, scale, out });
        out
    }

    /// See [`Op::Add`].
    pub fn add(&mut self, name: impl Into<String>, a: View, b: View, scale: f32) -> ValueId {
        let out = self.value(name, a.width, self.rows_of(a));
        self.push(Op::Add { a, b, scale, out });
        out
    }

    /// [`Op::Conv`] and the [`Op::ConvAppend`] that belongs to it.
    pub fn conv(
        &mut self,
        name: impl Into<String>,
        x: View,
        weight: WeightId,
        bias: Option<WeightId>,
        state: StateId,
        function: Function,
    ) -> ValueId {
        let out = self.value(name, x.width, Rows::All);
        self.push(Op::Conv { x, weight, bias, state, function, out });
        self.push(Op::ConvAppend { x, state });
        out
    }

    /// See [`Op::Rope`].
    pub fn rope(&mut self, name: impl Into<String>, x: View, heads: usize, rotary: RotaryId) -> ValueId {
        let out = self.value(name, x.width, Rows::All);
        self.push(Op::Rope { x, heads, rotary, out });
        out
    }

    /// See [`Op::MoeRoute`].
    pub fn moe_route(
        &mut self,
        name: impl Into<String>,
        logits: View,
        bias: Option<WeightId>,
        routing: Routing,
        [groups, top_groups, top]: [usize; 3],
    ) -> ValueId {
        let out = self.value(name, 2 * top, self.rows_of(logits));
        self.push(Op::MoeRoute { logits, bias, routing, groups, top_groups, top, out });
        out
    }

    /// See [`Op::MoeApply`].
    pub fn moe_apply(
        &mut self,
        name: impl Into<String>,
        x: ValueId,
        routes: ValueId,
        [up, down]: [WeightId; 2],
        experts: usize,
        function: Function,
        gated: bool,
    ) -> ValueId {
        let width = self.graph.weight(down).rows / experts;
        let out = self.value(name, width, self.graph.value(x).rows);
        self.push(Op::MoeApply { x, routes, up, down, experts, function, gated, out });
        out
    }

    /// [`Op::Gather`], then a linear head; the result becomes the graph's logits.
    pub fn head(&mut self, x: View, weight: WeightId, width: usize) -> ValueId {
        let gathered = self.value("gathered", x.width, Rows::Outputs);
        self.push(Op::Gather { x, out: gathered });
        let logits = self.linear_rows("logits", gathered, weight, None, width);
        self.graph.logits = Some(logits);
        logits
    }

    /// Makes `logits` the graph's result and samples from it.
    pub fn sample(&mut self, logits: ValueId) {
        self.graph.logits = Some(logits);
        self.push(Op::Sample { logits });
    }

    /// The checked graph.
    pub fn finish(self) -> Result<Graph, GraphError> {
        self.graph.validate()?;
        Ok(self.graph)
    }
}
