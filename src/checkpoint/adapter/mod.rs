//! LoRA adapters in PEFT's layout, merged into the tensors of a checkpoint while they are read.
//!
//! An adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`. Its tensors are named after the modules
//! of the base model, behind `base_model.model.`:
//!
//! | tensor | shape | effect on the base |
//! |---|---|---|
//! | `M.lora_A.weight`, `M.lora_B.weight` | `[r, inputs]`, `[outputs, r]` | `W + s * B A` |
//! | `M.lora_embedding_A`, `M.lora_embedding_B` | `[r, tokens]`, `[hidden, r]` | `W + s * (B A)^T` |
//! | `M.lora_magnitude_vector` | `[outputs]` | DoRA: rows of the sum, scaled to these lengths |
//! | `M.lora_B.bias` | `[outputs]` | `b + s * bias` |
//! | any other name of the base | that of the base | replaced (`modules_to_save`, `bias`) |
//!
//! where `s` is `lora_alpha / r`, with `use_rslora` `lora_alpha / sqrt(r)`. Sums are made in f32 and then stored as the base
//! is; of a quantised base, sums are quantised again. Nothing is left of an adapter once a model is loaded: it costs no time
//! in a step. Sources: *LoRA* (Hu et al. 2021), *DoRA* (Liu et al. 2024, eq. 5), *rsLoRA* (Kalajdzievski 2023); names as PEFT
//! 0.21 writes them.

mod config;
mod merge;

use std::collections::{BTreeMap, BTreeSet};

use super::error::shorten;
use super::{Checkpoint, CheckpointError, Dtype, LARGEST_CONFIG, LISTED, Source, TensorInfo, read_whole, safetensors};
use config::AdapterConfig;
pub use merge::Merged;
use merge::{Change, Factors};

/// Name of an adapter's config.
pub const CONFIG: &str = "adapter_config.json";
/// Name of an adapter's tensors.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// In front of the names of the base's modules.
const PREFIX: &str = "base_model.model.";
/// First components of names that some ways of loading a model have and others have not.
const WRAPPERS: [&str; 4] = ["model.", "language_model.", "backbone.", "base_model."];
/// Ends of the names of embeddings, and of heads beside them.
const EMBEDDINGS: [&str; 2] = ["embed_tokens.weight", "embeddings.weight"];
const HEADS: [&str; 2] = ["lm_head.weight", "score.weight"];
/// Components that PEFT's wrappers add to names of tensors.
const INNER: [&str; 3] = [".base_layer", ".modules_to_save", ".default"];
/// Component of a copy from before the training, which PEFT does not load either.
const UNTRAINED: &str = ".original_module.";

/// Part of a module's adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    A,
    B,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
    Bias,
}

/// Ends of names, and the part of an adapter that a tensor of such a name is.
const ROLES: [(&str, Role); 7] = [
    (".lora_A.weight", Role::A),
    (".lora_B.weight", Role::B),
    (".lora_embedding_A", Role::EmbeddingA),
    (".lora_embedding_B", Role::EmbeddingB),
    (".lora_magnitude_vector", Role::Magnitude),
    (".lora_magnitude_vector.weight", Role::Magnitude),
    (".lora_B.bias", Role::Bias),
];

/// Tensors of the adapter of one module.
#[derive(Default)]
struct Module {
    low_rank: Option<(TensorInfo, bool)>,
    up: Option<(TensorInfo, bool)>,
    magnitude: Option<TensorInfo>,
    bias: Option<TensorInfo>,
}

impl Checkpoint {
    /// The same checkpoint with an adapter merged into it, after those that were merged before.
    ///
    /// Errors: files that are missing or damaged; an adapter of another kind than LoRA, or with an option that merging
    /// cannot honour; tensors that the checkpoint lacks, or has in other shapes: an adapter of another model.
    pub async fn with_adapter(mut self, source: impl Source + 'static) -> Result<Self, CheckpointError> {
        let source: Box<dyn Source> = Box::new(source);
        let fault = |what: String| CheckpointError::Adapter { place: source.describe(""), what };
        let Some(text) = read_whole(&source, CONFIG, LARGEST_CONFIG).await? else {
            return Err(fault(format!(
                "there is no {CONFIG}; an adapter is a folder with {CONFIG} and {WEIGHTS}, as PEFT's `save_pretrained` writes it"
            )));
        };
        let config = AdapterConfig::parse(&text).map_err(|what| fault(format!("{CONFIG} {what}")))?;
        if source.size(WEIGHTS).await?.is_none() {
            let pickle = source.size("adapter_model.bin").await?.is_some();
            let advice = if pickle {
                "; adapter_model.bin is there, a pickle, which runs what it says when it is read: load the adapter with PEFT and `save_pretrained` it"
            } else {
                "; is the download complete?"
            };
            return Err(fault(format!("there is no {WEIGHTS}{advice}")));
        }
        let tensors = safetensors::read_header(&source, WEIGHTS).await?;
        if tensors.is_empty() {
            return Err(fault(format!("{WEIGHTS} holds no tensors")));
        }
        let changes = changes(&config, tensors, &self).map_err(fault)?;
        let adapter = self.adapters.len();
        for (name, change) in changes {
            let Some(base) = self.tensors.remove(&name) else { continue };
            self.tensors.insert(name, Merged::join(adapter, base, change));
        }
        self.adapters.push(source);
        Ok(self)
    }

    /// How many adapters are merged into it.
    pub fn adapters(&self) -> usize {
        self.adapters.len()
    }
}

/// What an adapter does to the tensors of a checkpoint, in order: what is replaced first.
fn changes(
    config: &AdapterConfig,
    tensors: Vec<(String, TensorInfo)>,
    base: &Checkpoint,
) -> Result<Vec<(String, Change)>, String> {
    let names = Names::of(base);
    let (mut modules, mut replaced, mut strangers) = (BTreeMap::<String, Module>::new(), BTreeMap::new(), vec![]);
    for (name, info) in tensors.into_iter().filter(|(name, _)| !name.contains(UNTRAINED)) {
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return Err(format!("tensor `{name}` holds {}; F32, F16 and BF16 are read", info.dtype));
        }
        let plain = plain(&name);
        if let Some((module, role)) = role(&plain) {
            if modules.entry(module.to_owned()).or_default().put(role, info) {
                return Err(format!("`{name}` is there twice, under another spelling of its name"));
            }
        } else if let Some(found) = names.find(&plain) {
            same_shape(&name, &info.shape, &base.tensors()[found].shape)?;
            // Beside what was trained may lie the same under its plain name, for programs without PEFT.
            let trained = name.contains(".modules_to_save");
            let (other, was_trained) = replaced.entry(found.to_owned()).or_insert_with(|| (info.clone(), trained));
            if trained && !*was_trained {
                (*other, *was_trained) = (info, true);
            }
        } else {
            strangers.push(name);
        }
    }
    let mut changes: Vec<(String, Change)> =
        replaced.into_iter().map(|(name, (info, _))| (name, Change::Replaced(info))).collect();
    let mut adapted = BTreeSet::new();
    for (module, parts) in modules {
        let weight = format!("{module}.weight");
        let Some(found) = names.find(&weight) else {
            strangers.push(weight);
            continue;
        };
        if !adapted.insert(found) {
            return Err(format!("`{found}` is adapted twice, under two names"));
        }
        let target = &base.tensors()[found].shape;
        if let Some(bias) = &parts.bias {
            let name = format!("{module}.bias");
            let Some(found) = names.find(&name) else {
                return Err(format!("`{module}.lora_B.bias` is added to `{name}`, which the model does not have"));
            };
            same_shape(&name, &bias.shape, &base.tensors()[found].shape)?;
            let (scale, bias) = (config.scale(&module, parts.rank()?)?, bias.clone());
            changes.push((found.to_owned(), Change::Added { values: bias, scale }));
        }
        let factors = parts.factors(&module, config, target)?;
        changes.push((found.to_owned(), Change::LowRank(Box::new(factors))));
    }
    let embedding = changes.iter().find(|(name, _)| EMBEDDINGS.iter().any(|end| name.ends_with(end)));
    if let Some((name, _)) = embedding.filter(|_| names.is_tied()) {
        return Err(format!(
            "`{name}` is changed, which is the head of this model too, and merging would change both; merge the adapter with PEFT into a model whose head is a tensor of its own (`tie_word_embeddings: false`), and load that"
        ));
    }
    if strangers.is_empty() {
        return Ok(changes);
    }
    let count = strangers.len();
    strangers.truncate(LISTED);
    let listed = shorten(&strangers, count);
    let of = config.base.as_ref().map_or_else(String::new, |base| format!(", which is for `{base}`"));
    Err(format!("the model has no tensor for {listed} of this adapter{of}: is it an adapter of this model?"))
}

impl Module {
    /// Takes a tensor; true if there was one of its role.
    fn put(&mut self, role: Role, info: TensorInfo) -> bool {
        match role {
            Role::A => self.low_rank.replace((info, false)).is_some(),
            Role::B => self.up.replace((info, false)).is_some(),
            Role::EmbeddingA => self.low_rank.replace((info, true)).is_some(),
            Role::EmbeddingB => self.up.replace((info, true)).is_some(),
            Role::Magnitude => self.magnitude.replace(info).is_some(),
            Role::Bias => self.bias.replace(info).is_some(),
        }
    }

    fn rank(&self) -> Result<usize, String> {
        let rank = self.low_rank.as_ref().and_then(|(a, _)| a.shape.first()).copied();
        rank.filter(|&rank| rank > 0).ok_or_else(|| "has a module with `lora_B` and without `lora_A`".into())
    }

    /// Checks the factors against each other and against the shape of the weight that they change.
    fn factors(self, module: &str, config: &AdapterConfig, target: &[usize]) -> Result<Factors, String> {
        let rank = self.rank().map_err(|_| format!("`{module}` has no `lora_A`"))?;
        let scale = config.scale(module, rank)?;
        let (Some((a, of_embedding)), Some((b, as_well))) = (self.low_rank, self.up) else {
            return Err(format!("`{module}` has no `lora_B`"));
        };
        let [height, width] = match *target {
            [rows, columns] => [rows, columns],
            _ => [0, 0],
        };
        if rank > height.max(width) {
            return Err(format!("`{module}` has rank {rank}, more than its weight {target:?} has rows or columns"));
        }
        let [down, up] = if of_embedding { [height, width] } else { [width, height] };
        if of_embedding != as_well || a.shape != [rank, down] || b.shape != [up, rank] {
            return Err(format!(
                "the factors of `{module}` have shapes {:?} and {:?}, its weight in the model has {target:?}: is it an adapter of this model?",
                a.shape, b.shape
            ));
        }
        if config.dora != self.magnitude.is_some() {
            return Err(match config.dora {
                true => format!("{CONFIG} says DoRA, but `{module}` has no `lora_magnitude_vector`"),
                false => format!("`{module}` has a `lora_magnitude_vector`, but {CONFIG} does not say DoRA"),
            });
        }
        if let Some(magnitude) = &self.magnitude
            && (of_embedding || magnitude.shape.iter().product::<usize>() != height)
        {
            let shape = &magnitude.shape;
            return Err(format!(
                "`{module}` has magnitudes {shape:?} for a weight {target:?}; DoRA is merged in matrices of linear layers"
            ));
        }
        Ok(Factors { a, b, rank, of_embedding, scale, magnitude: self.magnitude })
    }
}

/// A tensor's name as the base has it.
fn plain(name: &str) -> String {
    let mut plain = name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    for inner in INNER {
        while let Some(at) = plain.find(&format!("{inner}.")) {
            plain.replace_range(at..at + inner.len(), "");
        }
        if let Some(short) = plain.strip_suffix(inner) {
            plain.truncate(short.len());
        }
    }
    plain
}

/// Module and part of a tensor of LoRA's.
fn role(name: &str) -> Option<(&str, Role)> {
    ROLES.iter().find_map(|(end, role)| Some((name.strip_suffix(end)?, *role)))
}

fn same_shape(name: &str, got: &[usize], wanted: &[usize]) -> Result<(), String> {
    let flat = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    if flat(got) == flat(wanted) {
        return Ok(());
    }
    Err(format!("`{name}` has shape {got:?}, in the model it has {wanted:?}: is it an adapter of this model?"))
}

/// Names of a base, with and without the components that wrap a model.
struct Names<'a> {
    exact: &'a BTreeMap<String, TensorInfo>,
    /// `None`: several names are the same without their wrappers.
    short: BTreeMap<&'a str, Option<&'a str>>,
}

impl<'a> Names<'a> {
    fn of(base: &'a Checkpoint) -> Self {
        let mut short = BTreeMap::new();
        for name in base.tensors().keys() {
            short.entry(unwrapped(name)).and_modify(|found| *found = None).or_insert(Some(name.as_str()));
        }
        Self { exact: base.tensors(), short }
    }

    /// True if the embedding is the head too.
    fn is_tied(&self) -> bool {
        !self.exact.keys().any(|name| HEADS.iter().any(|end| name.ends_with(end)))
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        let exact = self.exact.get_key_value(name).map(|(name, _)| name.as_str());
        exact.or_else(|| self.short.get(unwrapped(name)).copied().flatten())
    }
}

fn unwrapped(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_base() {
        for (name, wanted) in [
            ("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "model.layers.0.mlp.up_proj.lora_A.weight"),
            ("base_model.model.lm_head.modules_to_save.default.weight", "lm_head.weight"),
            ("base_model.model.score.modules_to_save.weight", "score.weight"),
            ("base_model.model.model.embed_tokens.base_layer.weight", "model.embed_tokens.weight"),
            ("base_model.model.q.lora_B.default.weight", "q.lora_B.weight"),
            ("base_model.model.e.lora_embedding_A.default", "e.lora_embedding_A"),
            ("model.default_scale", "model.default_scale"),
        ] {
            assert_eq!(plain(name), wanted);
        }
        assert_eq!(role("a.q.lora_A.weight"), Some(("a.q", Role::A)));
        assert_eq!(role("a.q.lora_magnitude_vector.weight"), Some(("a.q", Role::Magnitude)));
        assert_eq!(role("a.q.weight"), None);
        assert_eq!(unwrapped("model.language_model.layers.3.q"), unwrapped("backbone.layers.3.q"));
    }
}
