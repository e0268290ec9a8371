//! Structured output: a reply keeps to a JSON schema, a regular expression or a grammar.
//!
//! A grammar is compiled to a parser over bytes, which tells for every position of a text which tokens of a vocabulary may
//! come next: the mask that a sampler obeys. Parsers and lexers are those of the crate `llguidance`, whose documentation
//! describes the dialect of Lark and the part of JSON Schema that there is; what is not there is an error, never passed over.
//!
//! Requests bring grammars along. What their size and depth would cost is bounded before they are compiled (`bounds`), as the
//! crate recurses once for each definition; a mask has limits of its own, in work and in memory.

mod bounds;

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{TextError, Tokenizer};

/// Most states of a grammar's lexer, of one or two kilobytes each.
const MOST_STATES: usize = 20_000;
/// Most bytes of a token that a grammar may choose; a trie has no room for longer ones.
const LONGEST_TOKEN: usize = 512;
/// Most bytes of a vocabulary: a trie has a node for each at most, and room for so many.
const LARGEST_VOCABULARY: usize = (1 << 22) - 1;
/// White space between the parts of a JSON text: room for an indented one, and an end to it.
const WHITE_SPACE: &str = r"( |\n[ \t]{0,24})?";

/// What a text must keep to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GrammarSource {
    /// JSON that a schema describes. `oneOf` is taken as `anyOf`; schemas elsewhere (`$ref` to an address) are not read.
    JsonSchema(Value),
    /// A regular expression that the whole text matches.
    Regex(String),
    /// One of some texts.
    Choice(Vec<String>),
    /// A grammar in Lark's notation; its rule `start` is the text.
    Lark(String),
}

/// A tokenizer's vocabulary in the form that grammars need. It is made once for a model, and shared by threads.
pub struct Grammars {
    factory: ParserFactory,
    vocabulary: usize,
}

/// A grammar and how far a text has come in it.
#[derive(Clone)]
pub struct Grammar {
    matcher: Box<Matcher>,
    vocabulary: usize,
    /// The token behind which the text begins; `None` when it has begun.
    behind: Option<u32>,
    /// Tokens that may open a thinking at the very beginning, with those that close it.
    thinking: Vec<(u32, u32)>,
    /// Where it cannot be followed, the text is not bound.
    optional: bool,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").field("behind", &self.behind).finish_non_exhaustive()
    }
}

/// The bytes of each token as a trie.
struct Vocabulary(TokTrie);

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    /// A mask is asked for at every token, so none is ever forced.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

/// The crate's words, without the traces that it puts behind them.
fn fault(error: impl std::fmt::Display) -> TextError {
    let words = error.to_string();
    let words = words.split("\n<").next().unwrap_or_default();
    // In one line, as all errors are.
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    TextError::Grammar(if words.starts_with("panic: ") { "it is too complex".into() } else { words })
}

impl Grammars {
    /// Of a model with logits for `vocabulary` tokens. A text ends with one of `stop_token_ids`; an error where there is
    /// none.
    pub fn new(tokenizer: &Tokenizer, vocabulary: usize, stop_token_ids: &[u32]) -> Result<Self, TextError> {
        let stops: Vec<u32> = stop_token_ids.iter().copied().filter(|&id| (id as usize) < vocabulary).collect();
        let Some(&first) = stops.first() else { return Err(fault("the model has no stop token")) };
        let mut tokens = tokenizer.token_bytes(vocabulary)?;
        for &stop in &stops {
            tokens[stop as usize] = special(&format!("<[{stop}]>"));
        }
        if tokens.iter().map(Vec::len).sum::<usize>() > LARGEST_VOCABULARY {
            return Err(fault("the vocabulary is too large"));
        }
        let trie = TokTrie::from(&TokRxInfo::new(vocabulary as u32, first), &tokens).with_eos_tokens(&stops);
        let env: TokEnv = Arc::new(Vocabulary(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(fault)?;
        factory.quiet();
        *factory.limits_mut() =
            ParserLimits { max_lexer_states: MOST_STATES, verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory, vocabulary })
    }

    /// Compiles a grammar.
    pub fn compile(&self, source: &GrammarSource) -> Result<Grammar, TextError> {
        bounds::check(source).map_err(TextError::Grammar)?;
        let grammar = match source {
            GrammarSource::JsonSchema(schema) => TopLevelGrammar::from_json_schema(with_options(schema)?),
            GrammarSource::Regex(text) => TopLevelGrammar::from_regex(text),
            GrammarSource::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
            GrammarSource::Choice(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
                TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | ")))
            }
        };
        let parser = self.factory.create_parser(grammar).map_err(fault)?;
        let matcher = Matcher::new(Ok(parser));
        if let Some(error) = matcher.get_error() {
            return Err(fault(error));
        }
        Ok(Grammar {
            matcher: Box::new(matcher),
            vocabulary: self.vocabulary,
            behind: None,
            thinking: vec![],
            optional: false,
        })
    }
}

/// A schema with how its JSON is laid out, unless it says so itself.
fn with_options(schema: &Value) -> Result<Value, TextError> {
    let mut schema = match schema {
        Value::Object(fields) => fields.clone(),
        Value::Bool(true) => Map::new(),
        other => return Err(fault(format!("a JSON schema is an object, and this is {other}"))),
    };
    // Whoever asks for a lenient reading would get another one than is told.
    schema.insert("x-guidance".into(), json_options());
    Ok(Value::Object(schema))
}

/// How JSON is laid out.
pub(super) fn json_options() -> Value {
    json!({ "whitespace_flexible": true, "whitespace_pattern": WHITE_SPACE, "coerce_one_of": true })
}

impl Grammar {
    /// The text begins behind this token, and anything may come before: an answer behind its thinking, say.
    pub fn behind(self, token: u32) -> Self {
        Self { behind: Some(token), ..self }
    }

    /// The text may begin with a thinking, which is free: pairs of tokens that open it and close it.
    pub fn or_thinking(self, thinking: Vec<(u32, u32)>) -> Self {
        Self { thinking, ..self }
    }

    /// A text is not bound where it is not known when its thinking ends.
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Whether a text may do without it.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// The tokens that may come next: a bit each, the lowest first. `None`: any.
    pub fn mask(&mut self) -> Result<Option<Vec<u32>>, TextError> {
        if self.behind.is_some() {
            return Ok(None);
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(fault)?;
        let mut words = allowed.as_slice()[..self.vocabulary.div_ceil(32)].to_vec();
        for &(open, _) in &self.thinking {
            if let Some(word) = words.get_mut(open as usize / 32) {
                *word |= 1 << (open % 32);
            }
        }
        let over = self.vocabulary % 32;
        if let Some(last) = words.last_mut().filter(|_| over > 0) {
            *last &= (1 << over) - 1;
        }
        Ok(Some(words))
    }

    /// The text goes on with a token. True where it can go on no further.
    pub fn push(&mut self, token: u32) -> Result<bool, TextError> {
        match self.behind {
            Some(behind) => {
                self.behind = self.behind.filter(|_| behind != token);
                Ok(false)
            }
            None => {
                let thinking = std::mem::take(&mut self.thinking);
                if let Some(&(_, close)) = thinking.iter().find(|(open, _)| *open == token) {
                    self.behind = Some(close);
                    return Ok(false);
                }
                self.matcher.consume_token(token).map_err(fault)?;
                Ok(self.matcher.is_stopped())
            }
        }
    }
}

/// The bytes of a token that no text has.
fn special(name: &str) -> Vec<u8> {
    let mut bytes = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

impl Tokenizer {
    /// The bytes that each id of a vocabulary stands for within a text. Special tokens stand for none, and neither do ids
    /// that the tokenizer does not know.
    fn token_bytes(&self, vocabulary: usize) -> Result<Vec<Vec<u8>>, TextError> {
        let bytes = |id: u32| match self.control_token(id) {
            Some(control) if control.special => Ok(special(&control.text)),
            _ => self.bytes_of(id),
        };
        let short = |bytes: Vec<u8>| if bytes.len() > LONGEST_TOKEN { vec![] } else { bytes };
        (0..vocabulary as u32).map(|id| bytes(id).map(short)).collect()
    }

    /// The bytes that an id stands for within a text: of an added token its content, of one that is unknown none.
    pub fn bytes_of(&self, id: u32) -> Result<Vec<u8>, TextError> {
        let Some(piece) = self.inner.id_to_token(id) else { return Ok(vec![]) };
        if let Some(control) = self.control_token(id) {
            return Ok(control.text.into_bytes());
        }
        let fallback = piece.strip_prefix("<0x").and_then(|hex| hex.strip_suffix('>'));
        let fallback = fallback.filter(|_| self.decodes.byte_fallback);
        if let Some(byte) = fallback.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            return Ok(vec![byte]);
        }
        if self.decodes.byte_level
            && let Some(bytes) = piece.chars().map(byte_of).collect::<Option<Vec<u8>>>()
        {
            return Ok(bytes);
        }
        Ok(self.decode_after_text(&[id])?.into_bytes())
    }
}

/// The byte that a character of a byte-level vocabulary stands for. Printable characters of Latin-1 stand for themselves,
/// the other bytes in ascending order for the characters from U+0100 on (Radford et al. 2019, GPT-2, section 2.2).
fn byte_of(character: char) -> Option<u8> {
    let itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(character) {
        code @ 0x100.. => (0..=u8::MAX).filter(|byte| !itself(byte)).nth((code - 0x100) as usize),
        code => u8::try_from(code).ok().filter(itself),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: &[u8] = include_bytes!("../../assets/demo/tokenizer.json");
    const VOCABULARY: usize = 1024;

    fn grammars() -> (Tokenizer, Grammars) {
        let tokenizer = Tokenizer::from_bytes(DEMO, None).expect("a tokenizer");
        let grammars = Grammars::new(&tokenizer, VOCABULARY, &[2]).expect("grammars");
        (tokenizer, grammars)
    }

    fn allows(mask: &[u32], token: u32) -> bool {
        mask[token as usize / 32] >> (token % 32) & 1 == 1
    }

    /// Whether a grammar takes a text and may end behind it.
    fn takes(tokenizer: &Tokenizer, grammar: &Grammar, text: &str) -> bool {
        let mut grammar = grammar.clone();
        let all = tokenizer.token_bytes(VOCABULARY).expect("bytes");
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            let fits = |id: &usize| !all[*id].is_empty() && bytes.starts_with(&all[*id]);
            let id = (0..VOCABULARY).filter(fits).max_by_key(|&id| all[id].len()).expect("a token");
            let mask = grammar.mask().expect("a mask").expect("a mask");
            if !allows(&mask, id as u32) {
                return false;
            }
            let over = grammar.push(id as u32).expect("a token that the mask has");
            bytes = &bytes[all[id].len()..];
            if over && !bytes.is_empty() {
                return false;
            }
        }
        allows(&grammar.mask().expect("a mask").expect("a mask"), 2)
    }

    #[test]
    fn texts_are_taken_as_their_grammars_say() {
        let (tokenizer, grammars) = grammars();
        let schema = json!({
            "type": "object",
            "properties": { "name": { "type": "string", "maxLength": 12 }, "age": { "type": "integer", "minimum": 0 } },
            "required": ["name", "age"],
            "additionalProperties": false,
        });
        let choice = GrammarSource::Choice(vec!["yes".into(), "no \"way\"".into(), "ä".into()]);
        let lark = GrammarSource::Lark("start: \"a\" start \"b\" | \"c\"".into());
        for (source, text, wanted) in [
            (GrammarSource::JsonSchema(schema.clone()), r#"{"name": "Mia", "age": 7}"#, true),
            (GrammarSource::JsonSchema(schema.clone()), "{\n  \"name\": \"Mia\",\n  \"age\": 7\n}", true),
            (GrammarSource::JsonSchema(schema.clone()), r#"{"name": "Mia", "age": -7}"#, false),
            (GrammarSource::JsonSchema(schema.clone()), r#"{"name": "Mia"}"#, false),
            (GrammarSource::JsonSchema(schema), r#"{"name": "much too long a name", "age": 1}"#, false),
            (GrammarSource::JsonSchema(json!({ "type": "object" })), r#"{"any": [1, {"thing": null}]}"#, true),
            (GrammarSource::JsonSchema(json!(true)), "[true]", true),
            (GrammarSource::Regex("[a-c]+(x|yy)".into()), "abcayy", true),
            (GrammarSource::Regex("[a-c]+(x|yy)".into()), "abcay", false),
            (choice.clone(), "no \"way\"", true),
            (choice.clone(), "ä", true),
            (choice, "no", false),
            (lark.clone(), "aacbb", true),
            (lark, "aacb", false),
        ] {
            let grammar = grammars.compile(&source).expect("a grammar");
            assert_eq!(takes(&tokenizer, &grammar, text), wanted, "{source:?} {text}");
        }
    }

    /// Definitions that refer to the next one each.
    fn chain(count: usize) -> Value {
        let part = |i: usize| json!({ "allOf": [{ "type": "object" }, { "$ref": format!("#/$defs/d{}", i + 1) }] });
        let mut parts: Map<String, Value> = (0..count).map(|i| (format!("d{i}"), part(i))).collect();
        parts.insert(format!("d{count}"), json!({ "type": "object" }));
        json!({ "$ref": "#/$defs/d0", "$defs": parts })
    }

    #[test]
    fn chains_that_are_not_too_long_are_followed() {
        let (tokenizer, grammars) = grammars();
        let lark = (0..100).fold("start: a0\n".to_owned(), |text, i| text + &format!("a{i}: \"x\" a{}\n", i + 1));
        for (source, text) in [
            (GrammarSource::Lark(lark + "a100: \"y\"\n"), "x".repeat(100) + "y"),
            (GrammarSource::JsonSchema(chain(100)), "{}".into()),
        ] {
            let grammar = grammars.compile(&source).expect("a grammar");
            assert!(takes(&tokenizer, &grammar, &text));
        }
    }

    #[test]
    fn what_cannot_be_a_grammar_is_an_error() {
        let (_, grammars) = grammars();
        let deep = (0..20_000).fold(String::new(), |text, _| text + "(");
        for source in [
            GrammarSource::JsonSchema(json!(7)),
            GrammarSource::JsonSchema(json!({ "type": "nothing" })),
            GrammarSource::JsonSchema(json!({ "$ref": "http://example.com/schema" })),
            GrammarSource::Regex("(".into()),
            GrammarSource::Regex(deep.clone()),
            GrammarSource::Lark("begin: \"a\"".into()),
            GrammarSource::Lark(format!("start: {deep}")),
            GrammarSource::Lark(String::new()),
            GrammarSource::Choice(vec![]),
            GrammarSource::Regex("a".repeat(bounds::MOST_BYTES + 1)),
            // Chains of definitions, each of which the compiler would go into from within the one before.
            GrammarSource::Lark(
                (0..9000).fold("start: a0\n".into(), |text, i| text + &format!("a{i}: \"x\" a{}\n", i + 1)),
            ),
            GrammarSource::Lark(
                (0..9000).fold("start: A0\n".into(), |text, i| text + &format!("A{i}: \"x\" A{}\n", i + 1)),
            ),
            GrammarSource::JsonSchema(chain(2000)),
            GrammarSource::Lark(format!("start: %json {}", chain(2000))),
            GrammarSource::JsonSchema(json!({ "type": "object", "patternProperties": (0..200)
                .map(|i| (format!("^p{i}.*x{i}$"), json!({ "type": "string" }))).collect::<Map<_, _>>() })),
            GrammarSource::JsonSchema(json!({ "type": "integer", "multipleOf": 999_999_937 })),
        ] {
            let Err(error) = grammars.compile(&source).map_err(|error| error.to_string()) else {
                panic!("{:.80} was taken", format!("{source:?}"));
            };
            assert!(error.starts_with("the grammar cannot be used: "), "{error}");
        }
    }

    #[test]
    fn a_grammar_that_counts_to_a_billion_is_bounded() {
        let (_, grammars) = grammars();
        let mut grammar = grammars.compile(&GrammarSource::Regex("(a{1000}){1000}{1000}".into())).expect("a grammar");
        let a = grammars.factory.tok_env().tok_trie().token_id(b"a").expect("a token");
        for _ in 0..200 {
            // An error is an end too.
            let Ok(Some(mask)) = grammar.mask() else { return };
            assert!(allows(&mask, a) && !allows(&mask, 2));
            grammar.push(a).expect("a token that the mask has");
        }
    }

    #[test]
    fn a_text_may_begin_behind_a_token() {
        let (_, grammars) = grammars();
        let mut grammar = grammars.compile(&GrammarSource::Regex("a".into())).expect("a grammar").behind(7);
        assert_eq!(grammar.mask().expect("none"), None);
        assert!(!grammar.push(9).expect("anything") && grammar.mask().expect("none").is_none());
        assert!(!grammar.push(7).expect("anything"));
        let mask = grammar.mask().expect("a mask").expect("a mask");
        assert!(!allows(&mask, 2) && mask.iter().map(|word| word.count_ones()).sum::<u32>() >= 1);
    }

    #[test]
    fn a_text_may_think_first() {
        let (_, grammars) = grammars();
        let new = || grammars.compile(&GrammarSource::Regex("a".into())).expect("a grammar").or_thinking(vec![(7, 9)]);
        let mask = |grammar: &mut Grammar| grammar.mask().expect("a mask");
        let mut grammar = new();
        assert!(allows(&mask(&mut grammar).expect("a mask"), 7));
        assert!(!grammar.push(7).expect("thinking") && mask(&mut grammar).is_none());
        assert!(!grammar.push(500).expect("anything") && mask(&mut grammar).is_none());
        assert!(!grammar.push(9).expect("the end") && !allows(&mask(&mut grammar).expect("a mask"), 7));
        let mut grammar = new();
        let a = grammars.factory.tok_env().tok_trie().token_id(b"a").expect("a token");
        grammar.push(a).expect("the text");
        assert!(!allows(&mask(&mut grammar).expect("a mask"), 7), "only at the beginning");
    }

    #[test]
    fn vocabularies_of_bytes_are_read() {
        assert_eq!(byte_of('a'), Some(b'a'));
        assert_eq!(byte_of('\u{120}'), Some(b' '));
        assert_eq!(byte_of('\u{10a}'), Some(b'\n'));
        assert_eq!(byte_of(' '), None);
        assert_eq!(byte_of('\u{400}'), None);
        let all: std::collections::BTreeSet<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        assert_eq!(all.len(), 256);
    }
}
