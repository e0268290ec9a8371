//! Short convolutions.

use super::{ConvAppend, Function, Primitive};
use crate::graph::checks::equal;
use crate::graph::{Graph, GraphBuilder, Rows, StateId, ValueId, View, WeightId};

/// Depthwise causal convolution over a span, with the rows before it taken from `state`:
/// `out[t, c] = function(bias[c] + sum_j weight[c, j] * x[t - (d_conv - 1) + j, c])`.
///
/// Reads the state only; [`ConvAppend`] renews it. Gu and Dao 2023, arXiv 2312.00752.
#[derive(Clone, Debug)]
pub struct Conv {
    /// `[channels]`
    pub x: View,
    /// `[channels, d_conv]`; the last column belongs to the row itself.
    pub weight: WeightId,
    /// `[channels]`
    pub bias: Option<WeightId>,
    /// [`StateKind::Conv`](crate::graph::StateKind::Conv)
    pub state: StateId,
    /// Applied to the sum.
    pub function: Function,
    /// `[channels]`
    pub out: ValueId,
}

impl Primitive for Conv {
    const NAME: &'static str = "conv";

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        std::iter::once(self.weight).chain(self.bias).collect()
    }

    fn state(&self) -> Option<StateId> {
        Some(self.state)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let d_conv = graph.check_conv(self.state, self.x.width)?;
        graph.check_length("the kernel", self.weight, self.x.width * d_conv)?;
        self.bias.map_or(Ok(()), |bias| graph.check_length("the bias", bias, self.x.width))?;
        equal("width of the result", graph.width(self.out), self.x.width)
    }
}

impl GraphBuilder {
    /// [`Conv`] and the [`ConvAppend`] that belongs to it.
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
        self.push(Conv { x, weight, bias, state, function, out });
        self.push(ConvAppend { x, state });
        out
    }
}
