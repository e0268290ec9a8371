//! Memory of attention.

use super::Primitive;
use crate::graph::checks::equal;
use crate::graph::{Graph, StateId, ValueId, View};

/// Puts the span's keys and values into `state`. Runs after the last reader of that state.
#[derive(Clone, Debug)]
pub struct KvAppend {
    /// `[kv_heads * key_width]`
    pub k: View,
    /// `[kv_heads * value_width]`
    pub v: View,
    /// [`StateKind::Kv`](crate::graph::StateKind::Kv)
    pub state: StateId,
}

impl Primitive for KvAppend {
    const NAME: &'static str = "kv_append";

    fn reads(&self) -> Vec<View> {
        vec![self.k, self.v]
    }

    fn writes(&self) -> Option<ValueId> {
        None
    }

    fn state(&self) -> Option<StateId> {
        Some(self.state)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let kv = graph.check_kv(self.state)?;
        equal("width of k", self.k.width, kv.heads * kv.key_width)?;
        equal("width of v", self.v.width, kv.heads * kv.value_width)
    }
}
