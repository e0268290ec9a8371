//! Memory of short convolutions.

use super::Primitive;
use crate::graph::{Graph, StateId, ValueId, View};

/// Leaves the last `d_conv - 1` rows of `x` of every span in `state`. Runs after [`Conv`](super::Conv).
#[derive(Clone, Debug)]
pub struct ConvAppend {
    /// `[channels]`
    pub x: View,
    /// [`StateKind::Conv`](crate::graph::StateKind::Conv)
    pub state: StateId,
}

impl Primitive for ConvAppend {
    const NAME: &'static str = "conv_append";

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Option<ValueId> {
        None
    }

    fn state(&self) -> Option<StateId> {
        Some(self.state)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        graph.check_conv(self.state, self.x.width).map(|_| ())
    }
}
