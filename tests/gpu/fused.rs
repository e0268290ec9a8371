//! Fused kernels against the composition of their ops' CPU references: whole models with random weights, decoded and
//! read in short spans, where backends fuse. What is fused where: the table in `src/backend/webgpu/fuse/mod.rs`.

use std::collections::BTreeMap;

use crate::support::{Place, Worst, folder, places, skipped, wait, webgpu_or_skipped, webgpu_with};
use safetensors::Dtype;
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::webgpu::{Form, WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, Outputs, Step, Tokens};
use selvedge::checkpoint::{Checkpoint, Memory, WeightChoice};
use selvedge::runtime::{Cancel, Engine, EngineOptions};
use selvedge::state::KvFormat;
use serde_json::Value;

/// Hymba with nothing even: heads of 6 and 12, five states a channel, a rank of 3, three taps, a window that
/// wraps within a few tokens.
const ODD_HYMBA: &str = r#"{
    "model_type": "hymba", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 5, "num_attention_heads": 7,
    "num_key_value_heads": 1, "intermediate_size": 51, "mamba_expand": 2, "mamba_d_state": 5, "mamba_d_conv": 3,
    "mamba_dt_rank": 3, "num_memory_tokens": 3, "sliding_window": 9, "global_attn_idx": [0, 4],
    "kv_reuse_group": [[1, 2, 3]], "rope_type": "ntk", "max_position_embeddings": 512,
    "orig_max_position_embeddings": 128, "tie_word_embeddings": true
}"#;

/// Falcon-H1 with nothing even: what is scanned is wider than what attends, and neither is a multiple of eight.
const ODD_FALCON: &str = r#"{
    "model_type": "falcon_h1", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 3,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10, "intermediate_size": 51,
    "mamba_d_ssm": 66, "mamba_n_heads": 6, "mamba_n_groups": 3, "mamba_d_state": 9, "mamba_d_conv": 3,
    "mamba_rms_norm": false, "ssm_out_multiplier": 0.6, "attention_out_multiplier": 1.4,
    "max_position_embeddings": 512, "tie_word_embeddings": false
}"#;

/// Falcon-H1 with heads of whole words, a norm behind the gate, and groups whose columns fill a workgroup.
const EVEN_FALCON: &str = r#"{
    "model_type": "falcon_h1", "vocab_size": 101, "hidden_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "intermediate_size": 64,
    "mamba_d_ssm": 256, "mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_state": 16, "mamba_d_conv": 4,
    "mamba_rms_norm": true, "mamba_norm_before_gate": false, "max_position_embeddings": 2048,
    "tie_word_embeddings": false
}"#;

/// Qwen3.5 with nothing even: keys of 13 and values of 35 columns, three value heads to a key head, three taps.
const ODD_QWEN: &str = r#"{
    "model_type": "qwen3_5_text", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 5,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 12, "intermediate_size": 51,
    "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 13, "linear_value_head_dim": 35,
    "linear_conv_kernel_dim": 3, "full_attention_interval": 3, "max_position_embeddings": 512,
    "rope_parameters": { "rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.5 },
    "tie_word_embeddings": true
}"#;

/// Qwen3.5's experts beside one with a gate, with nothing even.
const ODD_QWEN_EXPERTS: &str = r#"{
    "model_type": "qwen3_5_moe_text", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 3,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 12, "num_experts": 9, "num_experts_per_tok": 4,
    "moe_intermediate_size": 19, "shared_expert_intermediate_size": 33,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 13, "linear_value_head_dim": 35,
    "linear_conv_kernel_dim": 3, "full_attention_interval": 3, "max_position_embeddings": 512,
    "rope_parameters": { "rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.5 }
}"#;

/// Jamba with nothing even: Mamba-1 in a layer of its own, experts of five.
const ODD_JAMBA: &str = r#"{
    "model_type": "jamba", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 4, "num_attention_heads": 7,
    "num_key_value_heads": 1, "intermediate_size": 21, "attn_layer_period": 3, "attn_layer_offset": 2,
    "num_experts": 5, "num_experts_per_tok": 3, "mamba_d_state": 5, "mamba_d_conv": 3, "mamba_proj_bias": true,
    "max_position_embeddings": 512
}"#;

/// LFM3 with nothing even: a gate for each head, norms behind every block, a window that wraps within a few tokens.
const ODD_LFM3: &str = r#"{
    "model_type": "lfm3", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 4, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 10, "intermediate_size": 51, "sliding_window": 9, "conv_L_cache": 5,
    "layer_types": ["conv", "full_attention", "sliding_attention", "conv"], "max_position_embeddings": 512
}"#;

/// Ministral 3 whose queries grow within a few tokens.
const ODD_MINISTRAL: &str = r#"{
    "model_type": "ministral3", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 3, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 10, "intermediate_size": 51, "max_position_embeddings": 512,
    "rope_parameters": { "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 4,
        "llama_4_scaling_beta": 0.4 }
}"#;

/// Nemotron-H's mixture of experts, in a width of its own.
const ODD_EXPERTS: &str = r#"{
    "model_type": "nemotron_h", "vocab_size": 101, "hidden_size": 42, "hybrid_override_pattern": "ME*E-E",
    "intermediate_size": 51, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10,
    "mamba_num_heads": 6, "mamba_head_dim": 7, "n_groups": 3, "ssm_state_size": 9, "conv_kernel": 3,
    "n_routed_experts": 12, "num_experts_per_tok": 5, "n_group": 4, "topk_group": 2, "moe_intermediate_size": 21,
    "moe_shared_expert_intermediate_size": 33, "moe_latent_size": 27, "routed_scaling_factor": 2.5,
    "max_position_embeddings": 512, "tie_word_embeddings": false
}"#;

/// Granite's, with a gate in every expert.
const ODD_GRANITE: &str = r#"{
    "model_type": "granitemoehybrid", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 3,
    "layer_types": ["mamba", "attention", "mamba"], "num_attention_heads": 3, "num_key_value_heads": 1,
    "intermediate_size": 19, "shared_intermediate_size": 51, "num_local_experts": 7, "num_experts_per_tok": 3,
    "mamba_expand": 2, "mamba_n_heads": 6, "mamba_n_groups": 3, "mamba_d_state": 9, "mamba_d_conv": 3,
    "embedding_multiplier": 3, "residual_multiplier": 0.3, "attention_multiplier": 0.1, "logits_scaling": 2.5,
    "max_position_embeddings": 512, "tie_word_embeddings": true
}"#;

/// LFM2's short convolutions.
const ODD_LFM2: &str = r#"{
    "model_type": "lfm2", "vocab_size": 101, "hidden_size": 42, "num_hidden_layers": 2,
    "layer_types": ["conv", "full_attention"], "num_attention_heads": 3, "num_key_value_heads": 1,
    "intermediate_size": 51, "block_auto_adjust_ff_dim": false, "conv_L_cache": 3, "max_position_embeddings": 512,
    "tie_embedding": true
}"#;

/// Numbers between -1 and 1 that look random and are the same everywhere.
fn noise(seed: usize, count: usize) -> impl Iterator<Item = f32> {
    let mut state = (seed as u32).wrapping_mul(2_654_435_769) | 1;
    (0..count).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// A checkpoint of a config, with random weights of a size that keeps the stream in bounds. Tensors whose names
/// contain `halved` are stored as f16, the others as f32.
fn random_checkpoint(config: &str, halved: Option<&str>) -> Checkpoint {
    let parsed = Config::parse(config).expect("a config");
    let model = arch::build(&parsed, None, &ArchOptions::default()).expect("a model");
    let mut tensors = BTreeMap::new();
    for part in model.graph.weights.iter().flat_map(|w| &w.parts) {
        let count = part.shape.iter().product();
        let columns: usize = part.shape.iter().skip(1).product();
        let scale = if part.shape.len() > 1 { 1.5 / (columns as f32).sqrt() } else { 0.5 };
        let offset = if part.tensor.contains("norm") { 1.0 } else { 0.0 };
        let numbers = noise(tensors.len() + 1, count).map(|x| offset + scale * x);
        let (dtype, bytes): (_, Vec<u8>) = if halved.is_some_and(|name| part.tensor.contains(name)) {
            (Dtype::F16, numbers.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect())
        } else {
            (Dtype::F32, numbers.flat_map(f32::to_le_bytes).collect())
        };
        tensors.insert(part.tensor.clone(), (dtype, part.shape.clone(), bytes));
    }
    let views: BTreeMap<&String, safetensors::tensor::TensorView> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| {
            let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes);
            (name, view.expect("as many bytes as numbers"))
        })
        .collect();
    let file = safetensors::serialize(views, None).expect("a file");
    let source = Memory::new().with("config.json", config.as_bytes().to_vec()).with("model.safetensors", file);
    wait(Checkpoint::open(source)).expect("a checkpoint")
}

fn load(checkpoint: &Checkpoint, backend: Box<dyn Backend>, weights: WeightChoice, kv: KvFormat) -> Engine {
    let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
    let mut options = EngineOptions::new(&mut progress);
    (options.weights, options.kv_format, options.slots, options.context) = (weights, kv, 3, Some(200));
    wait(Engine::load(checkpoint, backend, options)).expect("the model loads")
}

/// Short spans, decoding, and several slots in one step: the logits of all of it, and the kernels of the last step,
/// which decodes.
fn run(engine: &mut Engine) -> (Vec<f32>, Vec<String>) {
    let words = engine.model().vocabulary as u32;
    let token = |i: u32| i * 31 % words;
    let (mut logits, mut kernels) = (vec![], vec![]);
    let slots: Vec<_> = (0..3).map(|_| engine.open().expect("a slot")).collect();
    let mut next = 0;
    // Rows of each slot's span, step by step; every bucket that fuses is among them.
    for rows in
        [[40, 3, 0], [1, 0, 0], [0, 2, 0], [3, 1, 0], [0, 0, 8], [1, 1, 1], [5, 1, 2], [1, 0, 7], [1, 1, 1], [1, 0, 0]]
    {
        let spans = slots.iter().zip(rows).filter(|(_, rows)| *rows > 0).map(|(&slot, rows)| {
            next += rows;
            let tokens = Tokens::Given((next - rows..next).map(token).collect());
            engine.span(slot, tokens, Outputs::All).expect("a span")
        });
        let step = Step { spans: spans.collect() };
        let running = engine.run(&step).expect("a step");
        logits.extend(wait(engine.logits(&running)).expect("logits"));
        kernels = engine.dispatches(&running);
    }
    (logits, kernels)
}

/// Holds an engine on a backend to the CPU references; gives the kernels of a decode step.
fn compare(what: &str, checkpoint: &Checkpoint, open: fn() -> Box<dyn Backend>, wanted: &Wanted) -> Vec<String> {
    let largest = wanted.logits.iter().fold(1f32, |m, x| m.max(x.abs()));
    let (got, kernels) = run(&mut load(checkpoint, open(), wanted.weights, wanted.kv));
    // f16 keys may round to neighbours on either side.
    let tolerance = if wanted.kv == KvFormat::F16 { 1e-3 } else { 2e-4 } * largest;
    let mut worst = Worst::new(what, tolerance);
    worst.compare("logits", &got, &wanted.logits);
    worst.finish();
    kernels
}

/// What the CPU references give with weights and KV in these formats.
struct Wanted {
    weights: WeightChoice,
    kv: KvFormat,
    logits: Vec<f32>,
}

impl Wanted {
    fn new(checkpoint: &Checkpoint, weights: WeightChoice, kv: KvFormat) -> Self {
        let (logits, _) = run(&mut load(checkpoint, Box::new(CpuBackend::reference()), weights, kv));
        Self { weights, kv, logits }
    }
}

const FORMATS: [(WeightChoice, KvFormat, &str); 6] = [
    (WeightChoice::F32, KvFormat::F32, "f32"),
    (WeightChoice::F16, KvFormat::F16, "f16"),
    (WeightChoice::Bf16, KvFormat::F32, "bf16"),
    (WeightChoice::Q8, KvFormat::F16, "q8"),
    (WeightChoice::Q4, KvFormat::F32, "q4"),
    (WeightChoice::Q4m, KvFormat::F32, "q4m"),
];

fn golden(name: &str) -> String {
    std::fs::read_to_string(folder(name).join("config.json")).expect("a config")
}

/// Holds models with random weights, in every format, to the CPU references on every backend.
fn agree<const N: usize>(models: [(&str, String); N]) {
    for (name, config) in models {
        let checkpoint = random_checkpoint(&config, None);
        for (weights, kv, format) in FORMATS {
            let wanted = Wanted::new(&checkpoint, weights, kv);
            for place in places() {
                // Where kernels take a second to compile, three formats are enough.
                if place.slow && !matches!(format, "f32" | "f16" | "q4m") {
                    continue;
                }
                compare(&format!("{name}, {format}, on {}", place.name), &checkpoint, place.open, &wanted);
            }
        }
    }
}

#[test]
fn attention_beside_a_scan_agrees_with_the_references() {
    agree([
        ("odd hymba", ODD_HYMBA.to_owned()),
        ("hymba", golden("hymba/caseA")),
        ("falcon_h1", golden("falcon_h1")),
        ("falcon_h1_rms", golden("falcon_h1_rms")),
        ("odd falcon_h1", ODD_FALCON.to_owned()),
        ("even falcon_h1", EVEN_FALCON.to_owned()),
    ]);
}

#[test]
fn blocks_in_turn_agree_with_the_references() {
    agree([
        ("nemotron_h", golden("nemotron_h_bias")),
        ("lfm2", golden("lfm2_bias")),
        ("odd qwen3_5", ODD_QWEN.to_owned()),
        ("odd qwen3_5_moe", ODD_QWEN_EXPERTS.to_owned()),
        ("odd experts", ODD_EXPERTS.to_owned()),
        ("odd granite", ODD_GRANITE.to_owned()),
        ("odd jamba", ODD_JAMBA.to_owned()),
        ("odd lfm3", ODD_LFM3.to_owned()),
        ("odd ministral3", ODD_MINISTRAL.to_owned()),
    ]);
}

/// A device on which norms are kernels of their own.
fn norms_apart() -> Box<dyn Backend> {
    webgpu_with(&[Form::Apart])
}

#[test]
fn norms_may_be_kernels_of_their_own() {
    let Some(_) = webgpu_or_skipped() else { return };
    let models = [("even falcon_h1", EVEN_FALCON, 0), ("odd experts", ODD_EXPERTS, 4), ("odd hymba", ODD_HYMBA, 0)];
    for (name, config, format) in models {
        let checkpoint = random_checkpoint(config, None);
        let (weights, kv, format) = FORMATS[format];
        let wanted = Wanted::new(&checkpoint, weights, kv);
        let kernels = compare(&format!("{name}, {format}, norms apart"), &checkpoint, norms_apart, &wanted);
        assert!(kernels.iter().any(|kernel| kernel.starts_with("norm (")), "{name}: {kernels:?}");
        assert!(kernels.iter().all(|kernel| !kernel.starts_with("add+norm+linear")), "{name}: {kernels:?}");
    }
}

/// A device on which matrices lie in segments of at most so many bytes.
fn in_segments<const BYTES: u64>() -> Box<dyn Backend> {
    let options = WebGpuOptions { segment: Some(BYTES), quantise: false, self_test: false, ..Default::default() };
    Box::new(wait(WebGpuBackend::new(&options)).expect("the adapter opens"))
}

#[test]
fn matrices_may_lie_in_segments() {
    let Some(place) = webgpu_or_skipped() else { return };
    if place.slow {
        skipped("matrices in segments: kernels take seconds to compile here");
        return;
    }
    // How many dispatches the pairs of all layers (or what reads a norm by groups) take in each format: the rows
    // between two cuts of either matrix are one.
    let models = [
        ("odd falcon_h1", ODD_FALCON.to_owned(), "gate+linear+linear+add (", [18, 9, 9, 21, 12, 12]),
        ("falcon_h1_rms", golden("falcon_h1_rms"), "norm+linear (linear_rows.group_norm", [18, 9, 9, 18, 9, 9]),
        ("odd experts", ODD_EXPERTS.to_owned(), "linear+linear+add (", [12, 6, 6, 15, 15, 15]),
    ];
    for (name, config, pair, counts) in models {
        let checkpoint = random_checkpoint(&config, None);
        for ((weights, kv, format), count) in FORMATS.into_iter().zip(counts) {
            // Most matrices of these models have several.
            let open = if format.starts_with('q') { in_segments::<768> } else { in_segments::<{ 3 << 10 }> };
            let wanted = Wanted::new(&checkpoint, weights, kv);
            let what = format!("{name}, {format}, in segments");
            let kernels = compare(&what, &checkpoint, open, &wanted);
            assert_eq!(kernels.iter().filter(|kernel| kernel.starts_with(pair)).count(), count, "{what}: {kernels:?}");
        }
    }
}

#[test]
fn two_linears_in_two_formats_are_not_one_kernel() {
    for (halved, paired) in [(None, true), (Some("o_proj"), false)] {
        let checkpoint = random_checkpoint(ODD_FALCON, halved);
        let wanted = Wanted::new(&checkpoint, WeightChoice::Auto, KvFormat::F32);
        for place in places() {
            let what = format!("falcon_h1 with {} in f16, on {}", halved.unwrap_or("nothing"), place.name);
            let kernels = compare(&what, &checkpoint, place.open, &wanted);
            let found = kernels.iter().any(|kernel| kernel.contains("linear_pair"));
            assert_eq!(found, paired && place.name == "webgpu", "{what}: {kernels:?}");
        }
    }
}

/// Kernels of a decode step of a model with random weights.
fn kernels(place: &Place, config: &str) -> Vec<String> {
    let mut engine = load(&random_checkpoint(config, None), (place.open)(), WeightChoice::F32, KvFormat::F16);
    let slot = engine.open().expect("a slot");
    let read = wait(engine.prefill(slot, &[5, 6, 7], 64, &Cancel::default())).expect("a prompt");
    wait(engine.sampled(&read.expect("nobody cancels"))).expect("a token");
    let step = engine.decode(slot).expect("a step");
    wait(engine.sampled(&step)).expect("a token");
    engine.dispatches(&step)
}

#[test]
fn every_kind_of_block_decodes_in_few_kernels() {
    let Some(place) = webgpu_or_skipped() else { return };
    let config = |base: &str, field: &str, value: Value| {
        let mut config: Value = serde_json::from_str(base).expect("JSON");
        config[field] = value;
        config.to_string()
    };
    // What is counted: the kernels that another block of the kind adds. The budgets: ARCHITECTURE.md.
    let nemotron =
        |block: &str, count: usize| config(ODD_EXPERTS, "hybrid_override_pattern", block.repeat(count).into());
    let hybrid = |base: &str, interval: usize, count: usize| {
        let base = config(base, "full_attention_interval", interval.into());
        config(&base, "num_hidden_layers", count.into())
    };
    let qwen = |interval: usize, count: usize| hybrid(ODD_QWEN, interval, count);
    let granite = |kind: &str, count: usize| {
        let base = config(ODD_GRANITE, "layer_types", vec![kind; count].into());
        config(&base, "num_hidden_layers", count.into())
    };
    let lfm2 = |attention: bool, count: usize| {
        let kind = if attention { "full_attention" } else { "conv" };
        let base = config(ODD_LFM2, "layer_types", vec![kind; count].into());
        config(&base, "num_hidden_layers", count.into())
    };
    type Model<'a> = &'a dyn Fn(usize) -> String;
    let plain = |count: usize| config(&nemotron("E", count), "moe_latent_size", Value::Null);
    let lfm3 = |kind: &str, count: usize| {
        let base = config(ODD_LFM3, "layer_types", vec![kind; count].into());
        config(&base, "num_hidden_layers", count.into())
    };
    let of_layers = |base: &str, count: usize| config(base, "num_hidden_layers", count.into());
    let jamba = |count: usize| of_layers(&config(ODD_JAMBA, "num_experts", 1.into()), count);
    let blocks: [(&str, Model<'_>, usize); 16] = [
        ("Mamba-2", &|n| nemotron("M", n), 4),
        ("attention without rotation", &|n| nemotron("*", n), 4),
        ("feed-forward, relu^2", &|n| nemotron("-", n), 2),
        ("experts", &plain, 8),
        ("experts in a width of their own", &|n| nemotron("E", n), 10),
        ("gated delta, feed-forward", &|n| qwen(99, n), 4 + 2),
        ("gated attention with normed heads, feed-forward", &|n| qwen(1, n), 4 + 2),
        ("gated delta, gated expert beside experts", &|n| hybrid(ODD_QWEN_EXPERTS, 99, n), 4 + 10),
        ("Mamba-2, feed-forward beside experts", &|n| granite("mamba", n), 4 + 8),
        ("attention, feed-forward beside experts", &|n| granite("attention", n), 4 + 8),
        ("short convolution, feed-forward", &|n| lfm2(false, n), 4 + 2),
        ("attention with normed heads, feed-forward", &|n| lfm2(true, n), 4 + 2),
        ("attention with growing queries, feed-forward", &|n| of_layers(ODD_MINISTRAL, n), 4 + 2),
        ("Mamba-1, feed-forward", &jamba, 4 + 2),
        ("short convolution, feed-forward, norms behind", &|n| lfm3("conv", n), 4 + 2 + 2),
        ("attention with a gate a head, feed-forward, norms behind", &|n| lfm3("full_attention", n), 5 + 2 + 2),
    ];
    let mut over = vec![];
    for (what, model, budget) in blocks {
        let (one, two) = (kernels(&place, &model(1)), kernels(&place, &model(2)));
        let added = two.len() - one.len();
        println!("{what}: {added} of {budget} kernels");
        if added > budget {
            over.push(format!("{what}: {added} kernels, {budget} are allowed"));
        }
    }
    assert!(over.is_empty(), "{}", over.join("; "));
}
