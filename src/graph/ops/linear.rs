//! Linear layers.

use super::{Gather, Primitive};
use crate::graph::checks::equal;
use crate::graph::{Graph, GraphBuilder, Rows, ValueId, View, WeightId};

/// `out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o]` for the first `width(out)` rows of the weight.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[inputs]`
    pub x: ValueId,
    /// `[outputs or more, inputs]`
    pub weight: WeightId,
    /// `[outputs]`
    pub bias: Option<WeightId>,
    /// `[outputs]`
    pub out: ValueId,
}

impl Primitive for Linear {
    const NAME: &'static str = "linear";

    fn reads(&self) -> Vec<View> {
        vec![View::entire(self.x)]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        std::iter::once(self.weight).chain(self.bias).collect()
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let (recipe, outputs) = (graph.weight(self.weight), graph.width(self.out));
        equal(&format!("columns of `{}`", recipe.name), recipe.columns, graph.width(self.x))?;
        if outputs > recipe.rows {
            return Err(format!("`{}` has {} rows, {outputs} are wanted", recipe.name, recipe.rows));
        }
        self.bias.map_or(Ok(()), |bias| graph.check_length("the bias", bias, outputs))
    }
}

impl GraphBuilder {
    /// See [`Linear`]; as wide as the weight has rows.
    pub fn linear(&mut self, name: impl Into<String>, x: ValueId, weight: WeightId, bias: Option<WeightId>) -> ValueId {
        let rows = self.graph.weight(weight).rows;
        self.linear_rows(name, x, weight, bias, rows)
    }

    /// See [`Linear`]; uses the first `width` rows of the weight.
    pub fn linear_rows(
        &mut self,
        name: impl Into<String>,
        x: ValueId,
        weight: WeightId,
        bias: Option<WeightId>,
        width: usize,
    ) -> ValueId {
        let out = self.value(name, width, self.graph.value(x).rows);
        self.push(Linear { x, weight, bias, out });
        out
    }

    /// [`Gather`], then a linear head; the result becomes the graph's logits.
    pub fn head(&mut self, x: View, weight: WeightId, width: usize) -> ValueId {
        let gathered = self.value("gathered", x.width, Rows::Outputs);
        self.push(Gather { x, out: gathered });
        let logits = self.linear_rows("logits", gathered, weight, None, width);
        self.graph.logits = Some(logits);
        logits
    }
}
