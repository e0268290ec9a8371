//! What a model says of the last hidden value: a logit for every word, or a score for each of a few labels.
//!
//! Nemotron-4-340B-Reward is of the second kind, a linear layer with several outputs on the last token of a
//! conversation. Its weights were published for NeMo only, so the form read here is the one that transformers
//! writes for every such model (`...ForSequenceClassification`): `architectures` says so, the layer is
//! `score.weight [labels, hidden]`, and the labels' names are in `id2label`.

use crate::arch::config::WIDTH;
use crate::arch::{ArchError, Config, TensorShapes};
use crate::graph::{Function, GraphBuilder, Part, ValueId, WeightId};

/// What a model's last layer gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Logits over the vocabulary, from which tokens are chosen.
    CausalLm,
    /// One number a label, in this order.
    Classification(Vec<String>),
}

/// The end of the name of an architecture that gives scores.
const SCORES: &str = "ForSequenceClassification";
/// Ends of those that give something else than words, of any family.
const OTHERS: [&str; 4] = ["ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice", "ForMaskedLM"];

impl Head {
    /// What the config's `architectures` promise.
    pub(crate) fn parse(config: &Config) -> Result<Self, ArchError> {
        let architectures = config.strings("architectures")?.unwrap_or_default();
        let named = |end: &str| architectures.iter().any(|name| name.ends_with(end));
        if OTHERS.iter().any(|end| named(end)) {
            return Err(config.unsupported("architectures", format!("`...ForCausalLM`, `...{SCORES}`")).into());
        }
        Ok(if named(SCORES) { Self::Classification(labels(config)?) } else { Self::CausalLm })
    }

    /// Refuses scores, for a family that has none.
    pub(crate) fn only_causal_lm(&self, config: &Config, families: &str) -> Result<(), ArchError> {
        match self {
            Self::CausalLm => Ok(()),
            Self::Classification(_) => {
                let supported = format!("`...ForCausalLM`; `...{SCORES}` of {families} only");
                Err(config.unsupported("architectures", supported).into())
            }
        }
    }

    /// Appends it behind `last`. `words` are the tensor's rows that give logits; `table` is the embedding's, where
    /// they may be tied.
    pub(crate) fn build(
        &self,
        g: &mut GraphBuilder,
        tie: &Tie,
        last: ValueId,
        words: Part,
        table: WeightId,
    ) -> Result<(), ArchError> {
        match self {
            Self::CausalLm => logits(g, tie, last, words, table).map(|_| ()),
            Self::Classification(labels) => {
                let last = g.whole(last);
                let head = g.matrix("score", vec![Part::all("score.weight", &[labels.len(), last.width])]);
                g.head(last, head, labels.len());
                Ok(())
            }
        }
    }
}

/// The tensor whose rows give logits, in every family.
pub(crate) const LM_HEAD: &str = "lm_head.weight";

/// Where the rows that give logits come from.
#[derive(Clone, Copy, PartialEq)]
enum Words {
    /// They are the embedding's.
    Tied,
    /// A tensor of their own.
    Own,
    /// Nowhere: the config does not tie them, and the checkpoint does not have them.
    Missing,
}

/// The tensors of the first and of the last layer, which may be one.
pub(crate) struct Tie {
    /// The embedding's tensor.
    pub embedding: String,
    words: Words,
}

impl Tie {
    /// Decides as transformers does: a config that ties is overruled by a checkpoint that has both tensors, and one of
    /// the two serves as both; a config that does not tie needs both.
    pub fn new(tied: bool, tensors: Option<&TensorShapes>, embedding: impl Into<String>) -> Self {
        Self::of(tied, tensors, embedding.into(), LM_HEAD)
    }

    /// The same, where the rows that give logits have another name.
    pub fn of(tied: bool, tensors: Option<&TensorShapes>, embedding: String, head: &str) -> Self {
        let Some(tensors) = tensors else {
            return Self { embedding, words: if tied { Words::Tied } else { Words::Own } };
        };
        match (tensors.contains_key(&embedding), tensors.contains_key(head)) {
            (false, true) if tied => Self { embedding: head.into(), words: Words::Tied },
            (_, true) => Self { embedding, words: Words::Own },
            (_, false) => Self { embedding, words: if tied { Words::Tied } else { Words::Missing } },
        }
    }
}

/// Appends the logits behind `last`, and the choice among them. Their rows are `words`, or the embedding's `table`
/// where it is tied. Gives the weight that holds them.
pub(crate) fn logits(
    g: &mut GraphBuilder,
    tie: &Tie,
    last: ValueId,
    words: Part,
    table: WeightId,
) -> Result<WeightId, ArchError> {
    let tied = match tie.words {
        Words::Missing => return Err(ArchError::NoHead { tensor: words.tensor }),
        words => words == Words::Tied,
    };
    let (vocabulary, scale) = (words.rows.len(), words.scale);
    let head = if tied { table } else { g.embedding("lm_head", vec![words]) };
    let mut logits = g.head(g.whole(last), head, vocabulary);
    // A factor cannot be folded into rows that are the embedding's too.
    if tied && scale != 1.0 {
        logits = g.activation("scaled_logits", g.whole(logits), Function::Identity, scale);
    }
    g.sample(logits);
    Ok(head)
}

/// The labels' names, in the order of their numbers; without names, as many as `num_labels` or transformers' two.
fn labels(config: &Config) -> Result<Vec<String>, ArchError> {
    let Some(names) = config.nested("id2label") else {
        let count = config.size_opt("num_labels")?.unwrap_or(2);
        config.product("num_labels", &[count], WIDTH)?;
        return Ok((0..count).map(|label| format!("LABEL_{label}")).collect());
    };
    let count = names.fields();
    let label = |id: usize| names.string(&id.to_string()).map(str::to_owned);
    let labels: Result<Vec<_>, _> = (0..count).map(label).collect();
    match labels {
        Ok(labels) if !labels.is_empty() => Ok(labels),
        _ => Err(config.invalid("id2label", "names of labels under \"0\", \"1\" and so on").into()),
    }
}
