//! Hints: the option or the command that helps with an error of the library, whose messages name neither.

use selvedge::arch::ArchError;
use selvedge::checkpoint::{CheckpointError, WeightChoice};
use selvedge::hub::HubError;
use selvedge::runtime::EngineError;
use selvedge::state::KvFormat;

/// Hint for an error of the engine.
fn engine(error: &EngineError) -> Option<String> {
    let hint = match error {
        EngineError::NotCausalLm(_) => "`selvedge score` prints the scores",
        EngineError::Arch(ArchError::NoDraft { .. }) => "leave `--speculate` out",
        EngineError::NotClassification => "`selvedge generate` and `selvedge chat` do so",
        EngineError::NotFinite { kv: KvFormat::F16, .. } => "the option is `--kv f32`",
        EngineError::NotFinite { weights: WeightChoice::F32, .. } => return None,
        EngineError::NotFinite { .. } => "the option is `--weights f32`",
        EngineError::ContextFull { .. } => "the option is `--context N`",
        EngineError::Checkpoint(CheckpointError::Quantisation { .. }) => "the option is `--weights q4`",
        EngineError::Checkpoint(CheckpointError::NoConfig { found, .. }) if found.contains("an adapter") => {
            "`MODEL --lora FOLDER`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Hint for an error of the hub or its cache.
fn hub(error: &HubError) -> Option<String> {
    match error {
        HubError::Offline { model, .. } => Some(format!("`selvedge fetch {model}`, without `--offline`")),
        HubError::NotCached { .. } => Some("`selvedge cache list` shows what is there".into()),
        HubError::Space { .. } => Some("`selvedge cache remove MODEL` frees some".into()),
        _ => None,
    }
}

/// The message of an engine's error, with its hint.
pub(crate) fn engine_message(error: &EngineError) -> String {
    with(error.to_string(), engine(error))
}

/// The message of a hub's error, with its hint.
pub(crate) fn hub_message(error: &HubError) -> String {
    with(error.to_string(), hub(error))
}

fn with(message: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{message} ({hint})"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_option_that_helps() {
        let overflow = |kv, weights| engine_message(&EngineError::NotFinite { position: 3, kv, weights });
        assert!(overflow(KvFormat::F16, WeightChoice::Q4).ends_with("(the option is `--kv f32`)"));
        assert!(overflow(KvFormat::F32, WeightChoice::Q4).ends_with("(the option is `--weights f32`)"));
        assert!(!overflow(KvFormat::F32, WeightChoice::F32).contains("--"));
        let quantised = CheckpointError::Quantisation { file: "config.json".into(), method: "`gptq`".into() };
        assert!(engine_message(&quantised.into()).contains("--weights q4"));
        let adapter = CheckpointError::NoConfig { place: "a".into(), found: "; an adapter (LoRA) is there".into() };
        assert!(engine_message(&adapter.into()).contains("--lora FOLDER"));
        let missing = HubError::NotCached { repo: "a/b".into(), cache: "cache".into() };
        assert!(hub_message(&missing).contains("`selvedge cache list`"));
    }
}
