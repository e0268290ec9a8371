//! `selvedge inspect`: a model's layers, parameters and bytes, from its config alone where there are no weights.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::fetch::locate;
use crate::args::model::LONGEST_CONTEXT;
use crate::error::CommandError;
use crate::terminal;
use selvedge::arch::{self, ArchOptions, Config, ConfigError, Head, Model};
use selvedge::checkpoint::{self, Checkpoint, CheckpointError, Folder, WeightChoice};
use selvedge::graph::{StateKind, WeightFormat};
use selvedge::hub::Need;
use selvedge::runtime::{self, PREFILL_ROWS};
use selvedge::state::{KvFormat, StateBytes, StateLayout};

/// Keys and values of Llama-3.2-3B: 28 layers of 8 heads, 128 wide, in 16 bits.
const LLAMA_3B_PER_TOKEN: u64 = 28 * 8 * 128 * 2 * 2;

/// The length at which the Hymba paper's figure of 78.6 MB comes out.
const PAPER_TOKENS: u64 = 8192;

/// Show a model's layers, its parameters, and the bytes of its weights and of a sequence's state.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder with config.json, with or without weights, or a GGUF file; owner/name@revision:TAG on the hub, of which
    /// only the config is fetched, or the GGUF file; or a preset (hymba-1.5b)
    model: String,
    /// Never ask the network: the model is on this machine, a preset, or in the hub's cache
    #[arg(long)]
    offline: bool,
    /// Tokens of one sequence [default: the model's own context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=LONGEST_CONTEXT))]
    context: Option<u64>,
    /// Storage format of the matrices (weights)
    #[arg(long, value_enum, default_value_t = WeightChoice::Auto)]
    weights: WeightChoice,
    /// Storage format of attention's keys and values
    #[arg(long, value_enum, default_value_t = KvFormat::F16)]
    kv: KvFormat,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        let report = self.report()?;
        terminal::print(&if self.json { terminal::json(&report)? } else { report.to_string() })?;
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self) -> Result<Report, CommandError> {
        let path = Path::new(&self.model);
        let (text, checkpoint) = match arch::preset(&self.model).filter(|_| !path.is_dir()) {
            Some(text) => (text, None),
            None => {
                let folder = locate(path, Need::Config, self.offline)?;
                match pollster::block_on(Checkpoint::open(open(&folder)?)) {
                    Ok(checkpoint) => (checkpoint.config().to_owned(), Some(checkpoint)),
                    Err(CheckpointError::NoWeights { .. }) => {
                        (pollster::block_on(checkpoint::read_config(&open(&folder)?))?, None)
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let config = Config::parse(&text)?;
        let shapes = checkpoint.as_ref().map(Checkpoint::shapes);
        let model = arch::build(&config, shapes.as_ref(), &ArchOptions::default())?;
        let weights = match &checkpoint {
            Some(checkpoint) => runtime::weight_bytes(&checkpoint::stored(checkpoint, &model.graph, self.weights)?),
            None => promised_weights(&model, &config, self.weights)?,
        };
        let context = self.context.unwrap_or(model.context as u64);
        let types = checkpoint.as_ref().map_or_else(BTreeMap::new, gguf_types);
        Ok(Report { gguf: types, ..Report::new(&model, weights, self.kv, context) })
    }
}

fn open(path: &Path) -> Result<Folder, CheckpointError> {
    Ok(Folder::open(path)?)
}

/// Number of tensors of each of ggml's types in a GGUF model; empty for others.
fn gguf_types(checkpoint: &Checkpoint) -> BTreeMap<String, usize> {
    let mut types = BTreeMap::new();
    for packed in checkpoint.tensors().values().filter_map(|info| info.packed.as_deref()) {
        *types.entry(packed.kind.to_string()).or_default() += 1;
    }
    types
}

/// Bytes of the weights of a model that has only a config, which says in what format they were published.
fn promised_weights(model: &Model, config: &Config, choice: WeightChoice) -> Result<u64, ConfigError> {
    let nested = config.nested("text_config");
    let said = [Some(config), nested.as_ref()].into_iter().flatten();
    let said = said.flat_map(|config| ["dtype", "torch_dtype"].map(|field| (config, field)));
    let said = said.into_iter().find(|(config, field)| config.get(field).is_some());
    let published = match said.map(|(config, field)| config.string(field)).transpose()? {
        Some("float32") => WeightFormat::F32,
        Some("float16") => WeightFormat::F16,
        _ => WeightFormat::Bf16,
    };
    let stored = model.graph.weights.iter().map(|weight| {
        let format = choice.format(weight.class, weight.columns, [published]);
        weight.rows as u64 * format.row_bytes(weight.columns) as u64
    });
    Ok(stored.sum())
}

/// Report of `inspect`. Sizes in bytes; those of the state are one sequence's.
#[derive(Debug, Serialize)]
struct Report {
    model_type: String,
    parameters: u64,
    layers: usize,
    /// Labels of a reward model; empty for all others.
    labels: Vec<String>,
    /// Number of tensors of each type in GGUF files; empty for safetensors.
    gguf: BTreeMap<String, usize>,
    context: u64,
    kv: &'static str,
    bytes: Bytes,
    /// The same state by the rules of others.
    accountings: Vec<Accounting>,
}

#[derive(Debug, Serialize)]
struct Bytes {
    weights: u64,
    state_fixed: u64,
    state_per_token: u64,
    state_at_context: u64,
    /// The same without the meta rows, which all sequences share.
    state_at_context_shared: u64,
    /// Activations of the largest step, before ops are fused.
    workspace: u64,
    state: Kinds,
}

/// The state by kind.
#[derive(Debug, Serialize)]
struct Kinds {
    /// Keys and values of learned tokens in front (meta tokens), the same for all sequences.
    pinned: u64,
    /// Keys and values of windowed attention.
    rings: u64,
    /// The last inputs of convolutions, f32.
    conv: u64,
    /// States of scans, f32.
    recurrent: u64,
}

#[derive(Debug, Serialize)]
struct Accounting {
    name: String,
    bytes: u64,
}

impl Report {
    fn new(model: &Model, weights: u64, kv: KvFormat, context: u64) -> Self {
        let state = state(model, kv, context);
        let fixed = state.pinned + state.fixed();
        Self {
            model_type: model.model_type.clone(),
            parameters: model.graph.parameters(),
            layers: model.layers,
            labels: match &model.head {
                Head::CausalLm => vec![],
                Head::Classification(labels) => labels.clone(),
            },
            gguf: BTreeMap::new(),
            context,
            kv: match kv {
                KvFormat::F32 => "f32",
                KvFormat::F16 => "f16",
            },
            bytes: Bytes {
                weights,
                state_fixed: fixed,
                state_per_token: state.per_token,
                state_at_context: fixed + state.per_token * context,
                state_at_context_shared: state.at(context),
                workspace: runtime::workspace_bytes(&model.graph),
                state: Kinds { pinned: state.pinned, rings: state.rings, conv: state.conv, recurrent: state.recurrent },
            },
            accountings: accountings(model, context),
        }
    }
}

/// The state by the rules of others.
fn accountings(model: &Model, context: u64) -> Vec<Accounting> {
    let state = state(model, KvFormat::F16, context);
    let state = StateBytes { conv: state.conv / 2, ..state };
    let all = |name: &str, bytes| Accounting { name: name.into(), bytes };
    let mut list = vec![];
    if state.pinned > 0 {
        list.push(all("16-bit KV and convolution, f32 SSM, with meta rows", state.pinned + state.at(context)));
        list.push(all("16-bit KV and convolution, f32 SSM, meta rows shared", state.at(context)));
    } else {
        list.push(all("16-bit KV and convolution, f32 SSM", state.at(context)));
    }
    if model.model_type == "hymba" {
        list.push(all("as the Hymba paper: 16 bits, no meta rows, 8,192 tokens", paper_bytes(model)));
    }
    list.push(all("Llama-3.2-3B, 16-bit KV", LLAMA_3B_PER_TOKEN * context));
    list
}

/// 16 bits a number, rings as long as their windows, no meta rows, after [`PAPER_TOKENS`] tokens.
fn paper_bytes(model: &Model) -> u64 {
    let numbers = model.graph.states.iter().map(|state| match &state.kind {
        StateKind::Kv(kv) => {
            let rows = kv.window.map_or(PAPER_TOKENS, |window| PAPER_TOKENS.min(window as u64));
            (kv.heads * (kv.key_width + kv.value_width)) as u64 * rows
        }
        kind => StateLayout::elements(kind) as u64,
    });
    2 * numbers.sum::<u64>()
}

/// One sequence's state after `tokens` tokens behind the learned ones, by kind.
fn state(model: &Model, kv: KvFormat, tokens: u64) -> StateBytes {
    StateLayout::new(&model.graph, 1, tokens as usize + model.prefix_tokens.len(), kv).bytes()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Bytes { weights, workspace, state, .. } = &self.bytes;
        let (parameters, context) = (grouped(self.parameters), grouped(self.context));
        writeln!(f, "{}: {} layers, {parameters} parameters", self.model_type, self.layers)?;
        if !self.labels.is_empty() {
            writeln!(f, "classification head, labels: {}", self.labels.join(", "))?;
        }
        if !self.gguf.is_empty() {
            let types: Vec<String> = self.gguf.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            writeln!(f, "GGUF, tensors by type: {}", types.join(", "))?;
        }
        line(f, "weights", *weights)?;
        line(f, &format!("workspace of {PREFILL_ROWS} rows, before fusion"), *workspace)?;
        writeln!(f, "state of one sequence, keys and values in {}:", self.kv)?;
        let kinds = [
            ("meta rows, the same for all sequences", state.pinned),
            ("rings of windowed attention", state.rings),
            ("convolutions, f32", state.conv),
            ("recurrent states, f32", state.recurrent),
        ];
        for (kind, bytes) in kinds.into_iter().filter(|(_, bytes)| *bytes > 0) {
            line(f, &format!("  {kind}"), bytes)?;
        }
        line(f, "  fixed, all of these", self.bytes.state_fixed)?;
        line(f, "  a token, in global attention", self.bytes.state_per_token)?;
        line(f, &format!("  at {context} tokens"), self.bytes.state_at_context)?;
        if state.pinned > 0 {
            line(f, &format!("  at {context} tokens, meta rows shared"), self.bytes.state_at_context_shared)?;
        }
        writeln!(f, "by other rules, at {context} tokens:")?;
        for Accounting { name, bytes } in &self.accountings {
            line(f, &format!("  {name}"), *bytes)?;
        }
        Ok(())
    }
}

/// `what    1,234,567    1.23 MB`
fn line(f: &mut fmt::Formatter, what: &str, bytes: u64) -> fmt::Result {
    let (unit, name) = match bytes {
        0..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    writeln!(f, "{what:<60}{:>18}{:>10.2} {name}", grouped(bytes), bytes as f64 / unit)
}

/// `1,234,567`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge::state::RING_SLACK;

    fn hymba_at_8000() -> Report {
        let model = "hymba-1.5b".into();
        let args = Args {
            model,
            offline: true,
            context: Some(8000),
            weights: WeightChoice::Auto,
            kv: KvFormat::F16,
            json: false,
        };
        args.report().expect("a preset")
    }

    #[test]
    fn hymba_1_5b_has_its_published_size_and_state() {
        let report = hymba_at_8000();
        assert_eq!((report.parameters, report.layers), (1_522_797_824, 32));
        // Rows of five heads, keys 64 and values 128 wide, in f16.
        let row = 5 * (64 + 128) * 2;
        let state = &report.bytes.state;
        assert_eq!(state.pinned, 17 * 128 * row, "meta rows of the 17 layers that own keys and values");
        assert_eq!(state.rings, 14 * (1024 + RING_SLACK as u64) * row, "windows of the 14 local ones");
        assert_eq!(state.conv, 32 * 3200 * 3 * 4);
        assert_eq!(state.recurrent, 32 * 3200 * 16 * 4);
        assert_eq!(report.bytes.state_per_token, 3 * row, "three global layers");
        assert_eq!(report.bytes.state_fixed, state.pinned + state.rings + state.conv + state.recurrent);
        assert_eq!(report.bytes.state_at_context, report.bytes.state_fixed + 8000 * 3 * row);
        assert_eq!(report.bytes.state_at_context_shared, report.bytes.state_at_context - state.pinned);
        assert_eq!(report.bytes.weights, 2 * 1_522_797_824 + 2 * VECTORS, "bf16 but for the vectors");
    }

    /// Numbers of Hymba-1.5B that are stored in f32: norms, biases, convolutions, `A` and `D`.
    const VECTORS: u64 = 1600 + 32 * (2 * 1600 + 3200 * (4 + 1 + 1 + 16 + 1 + 2) + 100 + 16 + 16);

    #[test]
    fn hymba_1_5b_keeps_its_budgets() {
        let report = hymba_at_8000();
        assert!(report.bytes.state_at_context <= 86_000_000, "{}", report.bytes.state_at_context);
        let counted = |name: &str| {
            let found = report.accountings.iter().find(|a| a.name.contains(name));
            found.unwrap_or_else(|| panic!("no accounting {name}")).bytes
        };
        assert!(counted("f32 SSM, with meta rows") <= 86_000_000);
        assert!(counted("f32 SSM, meta rows shared") <= 81_000_000);
        assert_eq!(counted("as the Hymba paper"), 78_602_240, "the paper says 78.6 MB");
        assert_eq!(counted("Llama-3.2-3B"), 917_504_000, "the paper says 918 MB");
    }

    /// The table of docs/benchmarks.md, beside the ratios that are published.
    #[test]
    fn hybrids_are_as_much_smaller_as_the_benchmarks_say() {
        let state = |preset: &str, context| {
            let (weights, kv) = (WeightChoice::Auto, KvFormat::F16);
            let args = Args { model: preset.into(), offline: true, context: Some(context), weights, kv, json: false };
            args.report().expect("a preset").bytes.state_at_context
        };
        let ratio = |dense: u64, hybrid: u64| (10.0 * dense as f64 / hybrid as f64).round() / 10.0;
        let llama_3b = state("llama-3.2-3b", 8000);
        assert_eq!(llama_3b, 917_504_000);
        let hymba = hymba_at_8000().bytes;
        assert_eq!(ratio(llama_3b, hymba.state_at_context), 10.7);
        assert_eq!(ratio(llama_3b, hymba.state_at_context_shared), 11.2);
        // By the paper's own counting, which gives its 11.67: arXiv 2411.13676, table 2.
        let paper = hymba_at_8000().accountings.iter().find(|a| a.name.contains("Hymba paper")).map(|a| a.bytes);
        assert_eq!((100.0 * llama_3b as f64 / paper.expect("an accounting") as f64).round() / 100.0, 11.67);

        // Llama-3.1-8B's kind: 32 layers of 8 KV heads, 128 wide, in 16 bits.
        let (tokens, nemotron) = (65_536, state("nemotron-h-8b", 65_536));
        let dense = 32 * 8 * 128 * 2 * 2 * tokens;
        assert_eq!((dense, nemotron / 1_000_000), (8_589_934_592, 1177));
        assert_eq!(ratio(dense, nemotron), 7.3);
    }

    #[test]
    fn json_has_the_promised_keys() {
        let json = serde_json::to_value(hymba_at_8000()).expect("JSON");
        for key in ["model_type", "parameters", "layers", "bytes", "context"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        for key in ["weights", "state_fixed", "state_per_token", "state_at_context", "workspace"] {
            assert!(json["bytes"][key].is_u64(), "{key}");
        }
    }

    #[test]
    fn folders_are_read_with_and_without_weights() {
        let inspect = |model: &Path, weights| {
            let model = model.display().to_string();
            Args { model, offline: true, context: None, weights, kv: KvFormat::F32, json: false }.report()
        };
        let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/falcon_h1"));
        let report = inspect(golden, WeightChoice::Auto).expect("a model");
        assert_eq!((report.parameters, report.context), (59_652, 4096));
        assert_eq!(report.bytes.weights, 59_652 * 4, "all of it is f32");

        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy(golden.join("config.json"), folder.path().join("config.json")).expect("copied");
        let promised = inspect(folder.path(), WeightChoice::F16).expect("a config is enough");
        assert_eq!(promised.parameters, 59_652);
        assert_eq!(promised.bytes.weights, inspect(golden, WeightChoice::F16).expect("a model").bytes.weights);

        let error = inspect(Path::new("no-such-model"), WeightChoice::Auto).expect_err("nothing there").to_string();
        assert!(error.contains("no-such-model") && error.contains("hymba-1.5b"), "{error}");
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 12, 123, 1234, 1_522_797_824].map(grouped), ["0", "12", "123", "1,234", "1,522,797,824"]);
    }
}
