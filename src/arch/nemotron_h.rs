//! Nemotron-H, Nemotron-Nano-v2, Nemotron-3-Nano: a pattern of Mamba-2, attention, feed-forward and
//! mixture-of-experts blocks, one mixer each. Attention has no position embedding, whatever the config still says about
//! rotation. Source: transformers' `nemotron_h`; the limits of dt are NVIDIA's own `time_step_limit`. Where
//! [`ArchOptions::draft`] asks for it, the heads for later tokens too, blocks of attention and of experts in a pattern of their
//! own (source: vLLM's `nemotron_h_mtp`).

use super::blocks::{
    Attention, DraftBuilder, DraftTensors, Experts, HeadDefaults, LM_HEAD, Mamba2, Names, Tie, at_least_two,
    expert_counts, head_sizes, logits, router, squared_relu, time_step_limit,
};
use super::config::{LAYERS, SMALL, VOCABULARY, WIDTH};
use super::{ArchError, ArchOptions, Config, Model, TensorShapes, no_draft, without_draft};
use crate::graph::{ExpertChoice, Function, GraphBuilder, Part, Routing, ValueId};

/// Inner width of an expert where a config says nothing.
const EXPERT_WIDTH: usize = 7688;

/// What a block mixes with.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    Mamba,
    Attention,
    FeedForward,
    Experts,
}

/// The blocks, from either dialect of the pattern.
fn blocks(config: &Config) -> Result<Vec<Block>, ArchError> {
    // One list under two names, of which transformers writes the first.
    let field = if config.get("layers_block_type").is_some() { "layers_block_type" } else { "layer_types" };
    pattern(config, field, "hybrid_override_pattern")
}

/// The blocks of the heads for later tokens: attention and experts. Nothing else keeps a state that goes back by its length.
fn draft_blocks(config: &Config) -> Result<Vec<Block>, ArchError> {
    let (field, letters) = ("mtp_layers_block_type", "mtp_hybrid_override_pattern");
    let blocks = match [field, letters].iter().any(|field| config.get(field).is_some()) {
        true => pattern(config, field, letters)?,
        // transformers' own.
        false => vec![Block::Attention, Block::Experts],
    };
    match blocks.iter().all(|block| matches!(block, Block::Attention | Block::Experts)) {
        true => Ok(blocks),
        false => Err(config.unsupported(letters, "letters * and E, where it drafts").into()),
    }
}

fn pattern(config: &Config, field: &'static str, letters: &'static str) -> Result<Vec<Block>, ArchError> {
    let found: Vec<Block> = if let Some(names) = config.strings(field)? {
        let block = |name: &String| match name.as_str() {
            "mamba" | "linear_attention" => Ok(Block::Mamba),
            "attention" | "full_attention" => Ok(Block::Attention),
            "mlp" => Ok(Block::FeedForward),
            "moe" => Ok(Block::Experts),
            _ => Err(config.unsupported(field, "mamba, attention, mlp, moe")),
        };
        names.iter().map(block).collect::<Result<_, _>>()?
    } else {
        let block = |c: char| match c {
            'M' => Ok(Block::Mamba),
            '*' => Ok(Block::Attention),
            '-' => Ok(Block::FeedForward),
            'E' => Ok(Block::Experts),
            _ => Err(config.invalid(letters, "letters M, *, -, E")),
        };
        config.string(letters)?.chars().map(block).collect::<Result<_, _>>()?
    };
    if found.len() > LAYERS {
        return Err(config.invalid(letters, format!("at most {LAYERS} blocks")).into());
    }
    if found.is_empty() { Err(config.invalid(letters, "at least one block").into()) } else { Ok(found) }
}

fn refuse_unsupported(config: &Config) -> Result<(), ArchError> {
    config.expect("mlp_hidden_act", &"relu2".into())?;
    config.expect("mamba_hidden_act", &"silu".into())?;
    config.expect("attention_bias", &false.into())?;
    config.expect("residual_in_fp32", &false.into())?;
    // Released files have one head that looks ahead.
    if config.count_or("num_nextn_predict_layers", 0, LAYERS)? > 1 {
        return Err(config.unsupported("num_nextn_predict_layers", "0, 1").into());
    }
    if config.get("sliding_window").is_some() {
        return Err(config.unsupported("sliding_window", "null").into());
    }
    Ok(())
}

/// The feed-forward of an `E` block: routed experts beside one that every row goes through.
struct Mixture {
    experts: usize,
    choice: ExpertChoice,
    routing: Routing,
    /// Inner width of an expert.
    width: usize,
    /// Of the shared one.
    shared: usize,
    /// Width that the routed experts read and write, where it is not the stream's.
    latent: Option<usize>,
}

impl Mixture {
    fn parse(config: &Config, blocks: usize) -> Result<Self, ArchError> {
        config.expect("n_shared_experts", &1.into())?;
        config.expect("mlp_bias", &false.into())?;
        let all = if config.get("n_routed_experts").is_some() { "n_routed_experts" } else { "num_local_experts" };
        let [experts, top_k] = expert_counts(config, all, "num_experts_per_tok", [8, 2], blocks)?;
        let n_group = config.size_opt("n_group")?.unwrap_or(1);
        if !experts.is_multiple_of(n_group) {
            return Err(config.invalid("n_group", format!("a divisor of the {experts} experts")).into());
        }
        let topk_group = match config.get("topk_group") {
            Some(_) => config.size_within("topk_group", n_group)?,
            None => 1,
        };
        if top_k > topk_group * (experts / n_group) {
            let most = topk_group * (experts / n_group);
            return Err(config
                .invalid("num_experts_per_tok", format!("at most {most}, which topk_group leaves"))
                .into());
        }
        let normed = config.flag_or("norm_topk_prob", true)?;
        let scale = config.positive_or("routed_scaling_factor", 1.0)? as f32;
        let latent = match config.get("moe_latent_size") {
            Some(_) => Some(config.size_within("moe_latent_size", WIDTH)?),
            None => None,
        };
        Ok(Self {
            experts,
            choice: ExpertChoice { n_group, topk_group, top_k },
            routing: Routing::Sigmoid { normed, epsilon: 1e-20, scale },
            width: config.size_within_or("moe_intermediate_size", WIDTH, EXPERT_WIDTH)?,
            shared: config.size_within_or("moe_shared_expert_intermediate_size", WIDTH, EXPERT_WIDTH)?,
            latent,
        })
    }

    fn build(&self, g: &mut GraphBuilder, names: &Names, normed: ValueId, hidden: usize) -> ValueId {
        let (experts, inner) = (self.experts, self.latent.unwrap_or(hidden));
        let of = |what: &str, rows: usize, columns: usize| -> Vec<Part> {
            let part = |e: usize| names.matrix(&format!("mixer.experts.{e}.{what}_proj.weight"), rows, columns);
            (0..experts).map(part).collect()
        };
        let project = |g: &mut GraphBuilder, what: &str, x: ValueId, rows: usize, columns: usize| {
            let weight =
                g.matrix(names.value(what), vec![names.matrix(&format!("mixer.{what}.weight"), rows, columns)]);
            g.linear(names.value(what), x, weight, None)
        };
        // The router and the shared expert read the stream itself.
        let x = self.latent.map_or(normed, |latent| project(g, "fc1_latent_proj", normed, latent, hidden));
        let mixture = Experts {
            experts,
            choice: self.choice,
            routing: self.routing,
            bias: Some(names.vector("mixer.gate.e_score_correction_bias", experts)),
            up: of("up", self.width, inner),
            down: of("down", inner, self.width),
            function: Function::SquaredRelu,
            gated: false,
        };
        let logits = router(g, names, normed, vec![names.matrix("mixer.gate.weight", experts, hidden)]);
        let routed = mixture.build(g, names, g.whole(logits), x);
        let routed = self.latent.map_or(routed, |latent| project(g, "fc2_latent_proj", routed, hidden, latent));
        let up_down = [
            names.matrix("mixer.shared_experts.up_proj.weight", self.shared, hidden),
            names.matrix("mixer.shared_experts.down_proj.weight", hidden, self.shared),
        ];
        let shared = squared_relu(g, names, normed, up_down, None);
        g.add(names.value("mixture"), g.whole(routed), g.whole(shared), 1.0)
    }
}

/// The tensors of the heads for later tokens lie here, a block behind the other.
const MTP: &str = "mtp.layers.";

/// Whether a model has those heads: by its tensors, and without them by what its config says.
fn has_mtp(config: &Config, tensors: Option<&TensorShapes>) -> Result<bool, ArchError> {
    match tensors {
        Some(tensors) => Ok(tensors.contains_key(&format!("{MTP}0.eh_proj.weight"))),
        None => Ok(config.count_or("num_nextn_predict_layers", 0, LAYERS)? > 0),
    }
}

/// Builds the graph.
pub(super) fn build(
    config: &Config,
    tensors: Option<&TensorShapes>,
    options: &ArchOptions,
) -> Result<Model, ArchError> {
    refuse_unsupported(config)?;
    let blocks = blocks(config)?;
    let drafting = match options.draft {
        false => vec![],
        true if !has_mtp(config, tensors)? => {
            return Err(no_draft(config, without_draft(tensors, "it has no `mtp.layers.0.eh_proj.weight`")));
        }
        true => draft_blocks(config)?,
    };
    let (vocabulary, hidden) =
        (config.size_within("vocab_size", VOCABULARY)?, config.size_within("hidden_size", WIDTH)?);
    let width = config.size_within_or("intermediate_size", WIDTH, 21504)?;
    let eps = match config.get("layer_norm_epsilon") {
        Some(_) => config.positive_or("layer_norm_epsilon", 1e-5)?,
        None => config.positive_or("rms_norm_eps", 1e-5)?,
    } as f32;
    let sizes = head_sizes(
        config,
        hidden,
        &["head_dim", "attention_head_dim"],
        HeadDefaults { kv_heads: Some(8), head: Some(128) },
    )?;
    // Older names of some fields, which transformers asks first.
    let named = |older: &'static str, name: &'static str| if config.get(older).is_some() { older } else { name };
    let mamba = Mamba2 {
        heads: config.size_within_or("mamba_num_heads", WIDTH, 128)?,
        head_dim: config.size_within_or("mamba_head_dim", SMALL, 64)?,
        groups: config.size_within_or(named("mamba_n_groups", "n_groups"), SMALL, 8)?,
        d_state: config.size_within_or("ssm_state_size", SMALL, 128)?,
        d_conv: at_least_two(config, named("mamba_d_conv", "conv_kernel"), 4)?,
        conv_bias: config.flag_or(named("mamba_conv_bias", "use_conv_bias"), true)?,
        limit: time_step_limit(config)?,
    };
    mamba.check(config, "mamba_num_heads")?;
    if !mamba.heads.is_multiple_of(mamba.groups) {
        return Err(config.invalid("n_groups", format!("a divisor of the {} heads", mamba.heads)).into());
    }
    let mixtures = blocks.iter().chain(&drafting).filter(|&&block| block == Block::Experts).count();
    let use_bias = config.flag_or("use_bias", false)? || config.flag_or("mamba_proj_bias", false)?;
    let mlp_bias = config.flag_or("mlp_bias", false)?;
    // The released files say `backbone`; transformers 5 writes `model`.
    let model_prefix = |t: &TensorShapes| t.contains_key("model.embeddings.weight");
    let root = if tensors.is_some_and(model_prefix) { "model." } else { "backbone." };

    let mut g = GraphBuilder::new();
    let tie = Tie::new(config.flag_or("tie_word_embeddings", false)?, tensors, format!("{root}embeddings.weight"));
    let table = g.embedding("embed", vec![Part::all(&*tie.embedding, &[vocabulary, hidden])]);
    let block = |g: &mut GraphBuilder, names: &Names, stream: ValueId, block: Block| -> Result<ValueId, ArchError> {
        let norm = g.vector(names.vector("norm.weight", hidden));
        let normed = g.rms_norm(names.value("in_norm"), g.whole(stream), norm, eps);
        let mixed = match block {
            Block::Experts => Mixture::parse(config, mixtures)?.build(g, names, normed, hidden),
            Block::Mamba => mamba.mixer(g, names, "mixer.", normed, eps, use_bias),
            Block::Attention => Attention::plain(names, "mixer.", hidden, sizes, None).build(g, names, normed),
            Block::FeedForward => {
                let up_down = [
                    names.matrix("mixer.up_proj.weight", width, hidden),
                    names.matrix("mixer.down_proj.weight", hidden, width),
                ];
                let biases = [names.vector("mixer.up_proj.bias", width), names.vector("mixer.down_proj.bias", hidden)];
                squared_relu(g, names, normed, up_down, mlp_bias.then_some(biases))
            }
        };
        Ok(g.add(format!("hidden.{}", names.layer + 1), g.whole(stream), g.whole(mixed), 1.0))
    };
    let mut stream = g.embed("hidden.0", table, 1.0);
    for (layer, &kind) in blocks.iter().enumerate() {
        let names = Names { layer, prefix: format!("{root}layers.{layer}.") };
        stream = block(&mut g, &names, stream, kind)?;
    }
    let norm = g.vector(Part::all(format!("{root}norm_f.weight"), &[hidden]));
    let last = g.rms_norm("final_norm", g.whole(stream), norm, eps);
    let words = Part::all(LM_HEAD, &[vocabulary, hidden]);
    let head = logits(&mut g, &tie, last, words, table)?;
    let draft = match drafting.len().checked_sub(1) {
        None => None,
        Some(end) => {
            let vector = |index: usize, what: &str| Part::all(format!("{MTP}{index}.{what}.weight"), &[hidden]);
            let (embedding_norm, hidden_norm) = (vector(0, "enorm"), vector(0, "hnorm"));
            let front = DraftTensors { embedding_norm, hidden_norm, fc: &format!("{MTP}0.eh_proj.weight") };
            let mut draft = DraftBuilder::new(&g, table, hidden, eps, front);
            for (index, &kind) in drafting.iter().enumerate() {
                let names = Names { layer: blocks.len() + index, prefix: format!("{MTP}{index}.") };
                draft.stream = block(&mut draft.graph, &names, draft.stream, kind)?;
            }
            let norm = draft.graph.vector(vector(end, "final_layernorm"));
            let own = draft.graph.rms_norm("draft.norm", draft.graph.whole(draft.stream), norm, eps);
            Some(draft.finish(&mut g, last, own, head, vocabulary)?)
        }
    };
    Ok(Model { draft, ..Model::new(config, g.finish()?, blocks.len(), vocabulary, 4096)? })
}
