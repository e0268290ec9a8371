//! Heads for later tokens (multi-token prediction, MTP): the layers that draft what comes after the next token.
//!
//! At position `i` they read the token at `i + 1` and the row `h_i` that the model's last norm left, and guess the token at
//! `i + 2`: `x = fc(cat(norm_e(embed(token)), norm_h(h)))`, a layer or two of the family, a norm, and the model's own head.
//! What that norm leaves stands for `h` where the guess after the next is wanted. DeepSeek-V3, arXiv 2412.19437, section
//! 2.2; the order of the halves and the place of the norms as in vLLM's `qwen3_next_mtp`, `qwen3_5_mtp` and
//! `nemotron_h_mtp`.

use crate::arch::{ArchError, Draft};
use crate::graph::{GraphBuilder, Part, ValueId, WeightId};

/// A draft in the making, beside the graph of its model.
pub(crate) struct DraftBuilder {
    pub graph: GraphBuilder,
    /// Rows of the model's last norm, or of its own.
    hidden: ValueId,
    /// What its layers read.
    pub stream: ValueId,
}

/// Tensors in front of a draft's layers.
pub(crate) struct DraftTensors<'a> {
    /// Norm of the embedded token, `[hidden]`.
    pub embedding_norm: Part,
    /// Norm of the row of the model's last norm, `[hidden]`.
    pub hidden_norm: Part,
    /// `[hidden, 2 * hidden]`: columns of the token, then those of the row.
    pub fc: &'a str,
}

impl DraftBuilder {
    /// Begins one beside `model`, whose `table` embeds tokens.
    pub fn new(model: &GraphBuilder, table: WeightId, hidden: usize, eps: f32, tensors: DraftTensors<'_>) -> Self {
        let mut graph = model.beside();
        let g = &mut graph;
        let input = g.input("draft.hidden", hidden);
        let embedded = g.embed("draft.embedded", table, 1.0);
        let [of_token, of_row] = [(tensors.embedding_norm, embedded), (tensors.hidden_norm, input)].map(|(norm, x)| {
            let (name, weight) = (norm.tensor.clone(), g.vector(norm));
            g.rms_norm(name, g.whole(x), weight, eps)
        });
        // Half of each row of the matrix: seen as twice as many rows, every other one. Both halves keep 16 bits or more, as
        // quantisers of these models leave them.
        let half = |which: usize| {
            let whole = Part::all(tensors.fc, &[hidden, 2, hidden]);
            (0..hidden).map(|row| whole.clone().rows(2 * row + which..2 * row + which + 1)).collect()
        };
        let [of_token, of_row] = [("draft.token", of_token, 0), ("draft.row", of_row, 1)].map(|(name, x, which)| {
            let weight = g.high_precision(name, half(which));
            g.linear(name, x, weight, None)
        });
        let stream = g.add("draft.0", g.whole(of_token), g.whole(of_row), 1.0);
        Self { graph, hidden: input, stream }
    }

    /// Ends it behind `last`, its last norm, with the head of `model`, which takes over its weights and states. `source` is
    /// the model's last norm.
    pub fn finish(
        mut self,
        model: &mut GraphBuilder,
        source: ValueId,
        last: ValueId,
        head: WeightId,
        vocabulary: usize,
    ) -> Result<Draft, ArchError> {
        let logits = self.graph.head(self.graph.whole(last), head, vocabulary);
        self.graph.sample_draft(logits);
        model.share(&self.graph);
        Ok(Draft { graph: self.graph.finish()?, hidden: self.hidden, last, source })
    }
}
