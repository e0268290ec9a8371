//! The choice of tokens.

use super::Primitive;
use crate::graph::{Graph, GraphBuilder, ValueId, View};

/// Chooses a token from each row of logits, as the row's slot wants it, and leaves it in that slot.
#[derive(Clone, Debug)]
pub struct Sample {
    /// `[outputs, vocabulary]`
    pub logits: ValueId,
    /// Every row takes its largest logit, for the host alone, and no slot changes: a draft is a guess.
    pub draft: bool,
}

impl Primitive for Sample {
    const NAME: &'static str = "sample";

    fn reads(&self) -> Vec<View> {
        vec![View::entire(self.logits)]
    }

    fn writes(&self) -> Option<ValueId> {
        None
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        graph.check_outputs(self.logits)
    }
}

impl GraphBuilder {
    /// Makes `logits` the graph's result and samples from it.
    pub fn sample(&mut self, logits: ValueId) {
        self.graph.logits = Some(logits);
        self.push(Sample { logits, draft: false });
    }

    /// Makes `logits` the graph's result and takes the largest of each row, without a trace in its slot.
    pub fn sample_draft(&mut self, logits: ValueId) {
        self.graph.logits = Some(logits);
        self.push(Sample { logits, draft: true });
    }
}
