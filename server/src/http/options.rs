//! What chat completions and completions have in common: how a reply is made.

use selvedge::generate::{GenerateOptions, MOST_LOGPROBS, SamplingOverrides};
use selvedge::runtime::Cancel;
use selvedge::text::{Grammar, GrammarSource, ToolGrammar};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::structured::Structure;
use crate::jobs::Refused;
use crate::worker::About;

/// Most replies to one prompt.
const MOST_CHOICES: u32 = 16;
/// Most stop strings, and most bytes of each.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;

/// Things of OpenAI's that change what a reply is and that are not served: asking for them must not pass silently.
const REFUSED: [&str; 16] = [
    "functions",
    "function_call",
    "audio",
    "echo",
    "suffix",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "min_tokens",
    "ignore_eos",
    "bad_words",
    "allowed_token_ids",
    "stop_token_ids",
    "continue_final_message",
    "prompt_logprobs",
];
/// Most biases of tokens, and how large one may be; OpenAI's numbers.
const MOST_BIASES: usize = 1024;
const LARGEST_BIAS: f64 = 100.0;

/// A sampler's names, and those of the fields they come from.
const PARAMS: [(&str, &str); 6] = [
    ("temperature", "temperature"),
    ("top-p", "top_p"),
    ("min-p", "min_p"),
    ("repetition penalty", "repetition_penalty"),
    ("frequency penalty", "frequency_penalty"),
    ("presence penalty", "presence_penalty"),
];

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "`stop` must be a text or a list of texts")]
enum Stop {
    One(String),
    Several(Vec<String>),
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
}

/// Fields of a request that say how a reply is made.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ReplyOptions {
    pub model: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    stop: Option<Stop>,
    seed: Option<i64>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    /// Of conversations whether, of completions with how many others.
    logprobs: Option<Value>,
    top_logprobs: Option<usize>,
    /// Token ids beside the texts, as vLLM has it.
    return_token_ids: Option<bool>,
    /// A token id in words to what is added to its logit.
    logit_bias: Option<Map<String, Value>>,
    #[serde(flatten)]
    structure: Structure,
    /// Everything else.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl ReplyOptions {
    /// Refuses what is not served, and numbers that no sampler takes.
    pub fn check(&self, about: &About) -> Result<(), ApiError> {
        for name in REFUSED {
            let asks = |value: &Value| match value {
                Value::Null | Value::Bool(false) => false,
                Value::Object(fields) => !fields.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Bool(true) => true,
            };
            if self.rest.get(name).is_some_and(asks) {
                return Err(ApiError::field(name, format!("`{name}` is not supported")));
            }
        }
        let best = self.rest.get("best_of").filter(|best| !best.is_null());
        if best.is_some_and(|best| best.as_u64() != Some(u64::from(self.choices()))) {
            return Err(ApiError::field("best_of", "`best_of` is not supported"));
        }
        if !(1..=MOST_CHOICES).contains(&self.choices()) {
            return Err(ApiError::field("n", format!("`n` must be 1 to {MOST_CHOICES}")));
        }
        let stops = self.stops();
        if stops.len() > MOST_STOPS || stops.iter().any(|stop| stop.len() > LONGEST_STOP) {
            let most = format!("`stop` may have {MOST_STOPS} texts of {LONGEST_STOP} bytes");
            return Err(ApiError::field("stop", most));
        }
        if self.top_k.is_some_and(|k| k < -1 || k > i64::from(u32::MAX)) {
            return Err(ApiError::field("top_k", "`top_k` must be a count, or -1 for all"));
        }
        self.biases(about)?;
        let sampler = self.overrides(0).sampler(&about.recommended, || 0);
        sampler.check().map_err(|error| {
            let named = PARAMS.iter().find(|(name, _)| *name == error.name());
            match named {
                Some((_, param)) => ApiError::field(param, error.to_string()),
                None => ApiError::bad(error.to_string()),
            }
        })
    }

    /// Whether the reply is to come piece by piece.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with its counts.
    pub fn usage_at_end(&self) -> bool {
        self.stream_options.unwrap_or_default().include_usage
    }

    /// Whether the token ids of prompt and reply are wanted.
    pub fn ids(&self) -> bool {
        self.return_token_ids.unwrap_or(false)
    }

    /// Replies to make.
    pub fn choices(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    pub fn stops(&self) -> Vec<String> {
        match &self.stop {
            None => vec![],
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) => stops.clone(),
        }
    }

    /// How the reply number `choice` is made: each has a seed of its own.
    pub fn generate(
        &self,
        about: &About,
        choice: u32,
        default_tokens: usize,
        cancel: Cancel,
    ) -> Result<GenerateOptions, ApiError> {
        let mut sampler = self.overrides(choice).sampler(&about.recommended, super::chance);
        sampler.biases = self.biases(about).unwrap_or_default();
        let asked = self.max_completion_tokens.or(self.max_tokens).or(about.recommended.max_new_tokens());
        let max_tokens = asked.unwrap_or(default_tokens);
        let logprobs = self.logprobs()?;
        Ok(GenerateOptions { sampler, max_tokens, logprobs, cancel, ..GenerateOptions::default() })
    }

    /// What the reply's text keeps to, and the field that says so.
    pub fn structure(&self) -> Result<Option<(&'static str, GrammarSource)>, ApiError> {
        self.structure.source()
    }

    /// The grammar that the reply keeps to; `None`: anything.
    pub async fn grammar(&self, about: &About, tools: Option<ToolGrammar>) -> Result<Option<Grammar>, ApiError> {
        // Calls that may be made bind nothing else.
        let optional = tools.as_ref().is_some_and(|tools| !tools.must_call());
        let (field, source) = match (self.structure.source()?, tools) {
            (Some(_), Some(_)) => {
                let why =
                    "`tool_choice` asks for a call, and `response_format` or `structured_outputs` for another text";
                return Err(ApiError::field("tool_choice", why));
            }
            (Some(structure), None) => structure,
            (None, Some(tools)) => ("tools", tools.source().clone()),
            (None, None) => return Ok(None),
        };
        match about.grammars.clone().compile(source).await {
            Err(Refused::Bad(why)) => Err(ApiError::field(field, why)),
            compiled if optional => Ok(Some(compiled?.optional())),
            compiled => Ok(Some(compiled?)),
        }
    }

    /// What is added to the logits of tokens.
    fn biases(&self, about: &About) -> Result<Vec<(u32, f32)>, ApiError> {
        let refuse = |why: String| ApiError::field("logit_bias", why);
        let Some(biases) = &self.logit_bias else { return Ok(vec![]) };
        if biases.len() > MOST_BIASES {
            return Err(refuse(format!("`logit_bias` may have {MOST_BIASES} tokens")));
        }
        let bias = |(token, bias): (&String, &Value)| {
            let id = token.parse().ok().filter(|&id: &u32| (id as usize) < about.vocabulary);
            let id = id.ok_or_else(|| refuse(format!("`logit_bias`: {token:?} is no token id of this model")))?;
            let bias = bias.as_f64().filter(|bias| bias.abs() <= LARGEST_BIAS);
            let bias =
                bias.ok_or_else(|| refuse(format!("`logit_bias`: a bias is from -{LARGEST_BIAS} to {LARGEST_BIAS}")))?;
            Ok((id, bias as f32))
        };
        biases.iter().map(bias).collect()
    }

    /// Tokens beside each chosen one whose probabilities are wanted.
    pub fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        let wrong = |param: &str| ApiError::field(param, format!("`{param}` must be 0 to {MOST_LOGPROBS}"));
        let count = match &self.logprobs {
            None | Some(Value::Null | Value::Bool(false)) if self.top_logprobs.is_some_and(|count| count > 0) => {
                return Err(ApiError::field("top_logprobs", "`top_logprobs` needs `logprobs`"));
            }
            None | Some(Value::Null | Value::Bool(false)) => return Ok(None),
            Some(Value::Bool(true)) => self.top_logprobs.unwrap_or(0),
            Some(count) => {
                count.as_u64().and_then(|count| usize::try_from(count).ok()).ok_or_else(|| wrong("logprobs"))?
            }
        };
        if count > MOST_LOGPROBS { Err(wrong("top_logprobs")) } else { Ok(Some(count)) }
    }

    fn overrides(&self, choice: u32) -> SamplingOverrides {
        SamplingOverrides {
            temperature: self.temperature,
            top_k: self.top_k.map(|k| u32::try_from(k).unwrap_or(0)),
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            seed: self.seed.map(|seed| (seed as u64).wrapping_add(u64::from(choice))),
        }
    }
}
