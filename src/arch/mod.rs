//! Model families: `config.json` -> [`Graph`]. One file a family, no kernels in it.

mod bamba;
mod blocks;
mod config;
mod falcon_h1;
mod granite_hybrid;
mod hymba;
mod jamba;
mod lfm2;
mod lfm3;
mod llama;
mod nemotron;
mod nemotron_h;
mod presets;
mod qwen3_5;

use std::collections::BTreeMap;

use crate::graph::{Graph, GraphError, ValueId};
use llama::Kind;

pub use blocks::Head;
pub use config::{Config, ConfigError};
pub use presets::{preset, presets};

/// Names and shapes of a checkpoint's tensors, for what only the tensors can tell: prefixes, tied heads.
pub type TensorShapes = BTreeMap<String, Vec<usize>>;

/// A config or a checkpoint that cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ArchError {
    /// The config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another kind of model.
    #[error("unsupported model_type `{model_type}`; supported: {supported}")]
    UnknownModel {
        /// What the config says.
        model_type: String,
        /// What there is.
        supported: String,
    },
    /// A config that wants a tensor for the logits, beside a checkpoint that has none.
    #[error(
        "the checkpoint has no `{tensor}`, and config.json does not tie it to the embedding (`tie_word_embeddings` is false there, or missing, which means the same for this family); take the whole checkpoint, or write true where the model was made so"
    )]
    NoHead {
        /// The tensor.
        tensor: String,
    },
    /// A draft is asked for, and the model has no heads for later tokens.
    #[error(
        "the model (`{model_type}`) has no heads for later tokens (MTP) to draft with: {why}; load it without speculation, or take a checkpoint with tensors `mtp.*` of one of {}", DRAFTING.join(", ")
    )]
    NoDraft {
        /// What the config says.
        model_type: String,
        /// What is missing.
        why: &'static str,
    },
    /// The config describes something that no machine holds.
    #[error("config.json describes {parameters} parameters, at most {} can be", LARGEST_MODEL)]
    TooLarge {
        /// What it adds up to.
        parameters: u64,
    },
    /// The config contradicts itself in a way that only the graph shows.
    #[error("config.json does not describe a model that can be built: {0}")]
    Graph(#[from] GraphError),
}

/// Most parameters of a model.
const LARGEST_MODEL: u64 = 1 << 42;

/// Which keys Hymba's windowed layers see while decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HymbaWindow {
    /// As in training and prefill: the token and the `sliding_window` before it.
    #[default]
    Training,
    /// As the official `generate()` with its cache: one key fewer.
    Generate,
}

/// Choices that a config does not make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchOptions {
    /// For Hymba.
    pub hymba_window: HymbaWindow,
    /// The heads for later tokens too: see [`Draft`].
    pub draft: bool,
}

/// The heads for later tokens of a model (multi-token prediction): a graph of their own, which drafts tokens for the model to
/// verify. It has the weights, the states and the rotaries of the model's graph, in the same order, so that both run on what
/// is loaded and allocated once. In a row of position `i` it reads the token at `i + 1`.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What is computed.
    pub graph: Graph,
    /// Its input, `f32 [rows, width]`: rows of `source`, or of `last` where a draft follows a draft.
    pub hidden: ValueId,
    /// Its own last norm, `f32 [rows, width]`.
    pub last: ValueId,
    /// The value of the model's graph that it reads, `f32 [rows, width]`: the last norm.
    pub source: ValueId,
}

/// A model ready to be loaded.
#[derive(Clone, Debug)]
pub struct Model {
    /// `hymba`, `falcon_h1`, ...
    pub model_type: String,
    /// What is computed.
    pub graph: Graph,
    /// Residual blocks.
    pub layers: usize,
    /// Words of the vocabulary.
    pub vocabulary: usize,
    /// The heads for later tokens, where they were asked for.
    pub draft: Option<Draft>,
    /// What its last layer gives.
    pub head: Head,
    /// Longest sequence the model was made for, without prefix tokens.
    pub context: usize,
    /// Ids fed before any text, once a model: Hymba's meta tokens, as rows behind the vocabulary.
    pub prefix_tokens: std::ops::Range<u32>,
    /// `bos_token_id` of the config, if it is a word.
    pub bos: Option<u32>,
    /// `eos_token_id` of the config, one or several.
    pub eos: Vec<u32>,
    /// Ids that stand for a picture or a film, which are not read, under the config's name for them.
    pub placeholder_ids: Vec<(&'static str, u32)>,
}

impl Model {
    /// A model without prefix tokens; what is not in the graph comes from the config. `context` is the family's, where the
    /// config has none.
    fn new(config: &Config, graph: Graph, layers: usize, vocabulary: usize, context: usize) -> Result<Self, ArchError> {
        Ok(Self {
            model_type: config.string("model_type")?.to_owned(),
            graph,
            layers,
            vocabulary,
            draft: None,
            head: Head::parse(config)?,
            context: config.size_or("max_position_embeddings", context)?,
            prefix_tokens: 0..0,
            bos: config.bos(vocabulary),
            eos: config.token_ids("eos_token_id")?,
            placeholder_ids: vec![],
        })
    }
}

type Build = fn(&Config, Option<&TensorShapes>, &ArchOptions) -> Result<Model, ArchError>;

/// Every family, by `model_type`.
const FAMILIES: &[(&str, Build)] = &[
    ("bamba", bamba::build),
    ("falcon_h1", falcon_h1::build),
    ("granite", |config, tensors, _| llama::build(Kind::Granite, config, tensors)),
    ("granitemoe", |config, tensors, _| granite_hybrid::build(granite_hybrid::Kind::Experts, config, tensors)),
    ("granitemoehybrid", |config, tensors, _| granite_hybrid::build(granite_hybrid::Kind::Hybrid, config, tensors)),
    ("granitemoeshared", |config, tensors, _| granite_hybrid::build(granite_hybrid::Kind::Shared, config, tensors)),
    ("hymba", hymba::build),
    ("jamba", jamba::build),
    ("lfm2", lfm2::lfm2),
    ("lfm2_moe", lfm2::lfm2_moe),
    ("lfm3", lfm3::build),
    ("llama", |config, tensors, _| llama::build(Kind::Llama, config, tensors)),
    ("ministral3", |config, tensors, _| llama::build(Kind::Ministral3, config, tensors)),
    ("mistral", |config, tensors, _| llama::build(Kind::Mistral, config, tensors)),
    ("mistral3", |config, tensors, _| llama::mistral3(config, tensors)),
    ("nemotron", nemotron::build),
    ("nemotron_h", nemotron_h::build),
    ("qwen2", |config, tensors, _| llama::build(Kind::Qwen2, config, tensors)),
    ("qwen3", |config, tensors, _| llama::build(Kind::Qwen3, config, tensors)),
    ("qwen3_5", qwen3_5::qwen3_5),
    ("qwen3_5_moe", qwen3_5::qwen3_5_moe),
    ("qwen3_5_moe_text", qwen3_5::qwen3_5_moe),
    ("qwen3_5_text", qwen3_5::qwen3_5),
    ("qwen3_moe", |config, tensors, _| llama::build(Kind::Qwen3Moe, config, tensors)),
    ("qwen3_next", qwen3_5::qwen3_next),
    ("smollm3", |config, tensors, _| llama::build(Kind::SmolLm3, config, tensors)),
];

/// Families whose heads for later tokens draft.
const DRAFTING: [&str; 6] = ["nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"];

/// Families whose head may give scores.
const JUDGES: [&str; 4] = ["llama", "nemotron", "qwen2", "qwen3"];

/// Builds the model that a config describes. Without `tensors`, tied heads are taken from the config.
pub fn build(config: &Config, tensors: Option<&TensorShapes>, options: &ArchOptions) -> Result<Model, ArchError> {
    let model_type = config.string("model_type")?;
    let family = FAMILIES.iter().find(|(name, _)| *name == model_type);
    let Some((_, build)) = family else {
        return Err(ArchError::UnknownModel { model_type: model_type.to_owned(), supported: supported().join(", ") });
    };
    if !JUDGES.contains(&model_type) {
        Head::parse(config)?.only_causal_lm(config, &JUDGES.join(", "))?;
    }
    if options.draft && !DRAFTING.contains(&model_type) {
        return Err(no_draft(config, "none are known of this family"));
    }
    let model = build(config, tensors, options)?;
    match model.graph.parameters() {
        parameters if parameters > LARGEST_MODEL => Err(ArchError::TooLarge { parameters }),
        _ => Ok(model),
    }
}

/// Refuses a draft.
fn no_draft(config: &Config, why: &'static str) -> ArchError {
    let model_type = config.string("model_type").unwrap_or_default().to_owned();
    ArchError::NoDraft { model_type, why }
}

/// Why a model of a family that drafts has no draft: it lacks a tensor, or its config alone is known and names none.
fn without_draft(tensors: Option<&TensorShapes>, tensor: &'static str) -> &'static str {
    if tensors.is_some() { tensor } else { "its config.json names none" }
}

/// The `model_type`s that can be built.
pub fn supported() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}
