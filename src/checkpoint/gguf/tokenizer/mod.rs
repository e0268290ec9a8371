//! Tokenizer files made from the metadata: `tokenizer.json` and the files that transformers keeps beside it, so that a model
//! from a GGUF file is read like one from the hub.
//!
//! The metadata keeps less than the files: no normalizer, no pre-tokenizer but its name, no flags of added tokens but
//! special or not. What is missing is what the name stands for ([`pretokenizer`]), or what transformers makes of a
//! SentencePiece model ([`sentencepiece`]). Sources: llama.cpp's `llama-vocab.cpp` and `conversion/base.py`.

mod byte_level;
mod pretokenizer;
mod sentencepiece;
mod vocabulary;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::head::{Metadata, Value as Entry};
use vocabulary::Vocabulary;

const MODEL: &str = "tokenizer.ggml.model";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const TEMPLATE: &str = "tokenizer.chat_template";
const TOOL_TEMPLATE: &str = "tokenizer.chat_template.tool_use";

/// A special token by its name in `tokenizer_config.json`: the key of its id.
const SPECIAL: [(&str, &str); 7] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    // The key is spelled so.
    ("sep_token", "tokenizer.ggml.seperator_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("cls_token", "tokenizer.ggml.cls_token_id"),
    ("mask_token", "tokenizer.ggml.mask_token_id"),
];

/// Keys of the tokens that end a turn or a message, beside `eos_token`.
const ENDS: [&str; 2] = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Recommended sampling: the key, and the field of `generation_config.json`.
const SAMPLING: [(&str, &str); 5] = [
    ("general.sampling.temp", "temperature"),
    ("general.sampling.top_k", "top_k"),
    ("general.sampling.top_p", "top_p"),
    ("general.sampling.min_p", "min_p"),
    ("general.sampling.penalty_repeat", "repetition_penalty"),
];

/// The files `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja` and `generation_config.json` by name, as far
/// as the metadata tells them. None for a model without a vocabulary.
pub(super) fn files(metadata: &Metadata) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let made = match metadata.text(MODEL)? {
        None | Some("no_vocab" | "none") => return Ok(BTreeMap::new()),
        Some("gpt2") => byte_level::tokenizer,
        Some("llama") => sentencepiece::tokenizer,
        Some(other) => {
            return Err(format!(
                "`{MODEL}` is {other:?}; read are \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece BPE)"
            ));
        }
    };
    let vocabulary = Vocabulary::read(metadata)?;
    let Made { mut tokenizer, add_bos, special } = made(metadata, &vocabulary)?;
    let tokens = Special::read(metadata, &vocabulary, special)?;
    tokenizer["post_processor"] = tokens.post_processor(metadata, &vocabulary, add_bos)?;
    let mut config = tokens.config(&vocabulary);
    let mut files = BTreeMap::new();
    match (metadata.text(TEMPLATE)?, metadata.text(TOOL_TEMPLATE)?) {
        (None, _) => {}
        (Some(template), None) => drop(files.insert("chat_template.jinja".into(), template.as_bytes().to_vec())),
        (Some(template), Some(tool_use)) => {
            let named = |name: &str, template: &str| json!({"name": name, "template": template});
            let list = vec![named("default", template), named("tool_use", tool_use)];
            config.insert("chat_template".into(), Value::Array(list));
        }
    }
    files.insert("tokenizer.json".into(), tokenizer.to_string().into_bytes());
    files.insert("tokenizer_config.json".into(), Value::Object(config).to_string().into_bytes());
    let generation = generation_config(metadata, &vocabulary, tokens.id("eos_token"))?;
    files.insert("generation_config.json".into(), Value::Object(generation).to_string().into_bytes());
    Ok(files)
}

/// A tokenizer of one kind, without its post-processor, and what llama.cpp takes for granted of the kind.
struct Made {
    tokenizer: Value,
    /// The token `bos_token` goes in front of a text, where no key says otherwise.
    add_bos: bool,
    /// Ids of special tokens where no key names them.
    special: &'static [(&'static str, u32)],
}

/// A `tokenizer.json` without its post-processor.
fn tokenizer_json(
    vocabulary: &Vocabulary,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    mut model: Value,
    merges: Vec<Value>,
) -> Value {
    model["vocab"] = Value::Object(vocabulary.ids_by_text());
    model["merges"] = Value::Array(merges);
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    })
}

/// The id that a key gives. One beyond the vocabulary counts as absent, as in llama.cpp: converters write such.
fn token_id(metadata: &Metadata, key: &str, vocabulary: &Vocabulary) -> Result<Option<u32>, String> {
    match metadata.get(key) {
        None => Ok(None),
        Some(&Entry::Integer(id)) => Ok(u32::try_from(id).ok().filter(|&id| (id as usize) < vocabulary.tokens.len())),
        Some(other) => Err(format!("`{key}` is {other}, must be a token's id")),
    }
}

/// The special tokens: names in `tokenizer_config.json`, and ids.
struct Special(Vec<(&'static str, u32)>);

impl Special {
    fn read(metadata: &Metadata, vocabulary: &Vocabulary, defaults: &[(&str, u32)]) -> Result<Self, String> {
        let mut found = vec![];
        for (name, key) in SPECIAL {
            let default = defaults.iter().find(|(of, _)| *of == name).map(|&(_, id)| id);
            let default = default.filter(|&id| (id as usize) < vocabulary.tokens.len());
            if let Some(id) = token_id(metadata, key, vocabulary)?.or(default) {
                found.push((name, id));
            }
        }
        Ok(Self(found))
    }

    fn id(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|(of, _)| *of == name).map(|&(_, id)| id)
    }

    /// The fields of `tokenizer_config.json`.
    fn config(&self, vocabulary: &Vocabulary) -> Map<String, Value> {
        self.0.iter().map(|&(name, id)| (name.to_owned(), vocabulary.text(id).into())).collect()
    }

    /// The post-processor that puts `bos_token` in front of a text and `eos_token` behind it, where the model wants so.
    fn post_processor(&self, metadata: &Metadata, vocabulary: &Vocabulary, add_bos: bool) -> Result<Value, String> {
        let token = |key: &str, name: &str, default: bool| match (metadata.flag(key)?, self.id(name)) {
            (Some(true), None) => Err(format!("`{key}` is true, but no key gives the id of `{name}`")),
            (wanted, id) => Ok(id.filter(|_| wanted.unwrap_or(default))),
        };
        let (bos, eos) = (token(ADD_BOS, "bos_token", add_bos)?, token(ADD_EOS, "eos_token", false)?);
        if bos.is_none() && eos.is_none() {
            return Ok(Value::Null);
        }
        let around = |sequence: &str, type_id: u32| {
            let piece = |id: u32| json!({"SpecialToken": {"id": vocabulary.text(id), "type_id": type_id}});
            let text = json!({"Sequence": {"id": sequence, "type_id": type_id}});
            bos.map(piece).into_iter().chain([text]).chain(eos.map(piece)).collect::<Vec<Value>>()
        };
        let special = bos.into_iter().chain(eos).map(|id| {
            let text = vocabulary.text(id);
            (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]}))
        });
        let pair = [around("A", 0), around("B", 1)].concat();
        Ok(json!({
            "type": "TemplateProcessing",
            "single": around("A", 0),
            "pair": pair,
            "special_tokens": special.collect::<Map<String, Value>>(),
        }))
    }
}

/// The fields of `generation_config.json`: the tokens that end a reply, and recommended sampling.
fn generation_config(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
    eos: Option<u32>,
) -> Result<Map<String, Value>, String> {
    let mut ends: Vec<u32> = eos.into_iter().collect();
    for key in ENDS {
        ends.extend(token_id(metadata, key, vocabulary)?);
    }
    ends.extend(vocabulary.ends());
    let mut fields = Map::new();
    let mut distinct: Vec<u32> = vec![];
    for id in ends {
        if !distinct.contains(&id) {
            distinct.push(id);
        }
    }
    if !distinct.is_empty() {
        fields.insert("eos_token_id".into(), distinct.into());
    }
    for (key, field) in SAMPLING {
        if let Some(number) = metadata.number(key)? {
            fields.insert(field.into(), shortest(number).into());
        }
    }
    let samples = ["temperature", "top_k", "top_p", "min_p"].iter().any(|field| fields.contains_key(*field));
    if samples && fields.get("temperature").and_then(Value::as_f64) != Some(0.0) {
        fields.insert("do_sample".into(), true.into());
    }
    Ok(fields)
}

/// A number as its makers wrote it: files hold 0.6 with 32 bits, which is 0.60000002 and more with 64.
fn shortest(number: f64) -> f64 {
    let short = number as f32;
    if f64::from(short) == number { short.to_string().parse().unwrap_or(number) } else { number }
}

#[cfg(test)]
mod tests {
    use super::super::head;
    use super::pretokenizer::PreTokenizer;
    use super::*;
    use crate::checkpoint::Memory;
    use crate::text::{ChatTemplate, RenderRequest, Tokenizer};
    use futures::FutureExt;

    fn texts(list: &[&str]) -> Entry {
        Entry::Texts(list.iter().map(|&text| text.to_owned()).collect())
    }

    fn text(text: &str) -> Entry {
        Entry::Text(text.to_owned())
    }

    /// A byte-level vocabulary of a pre-tokenizer.
    fn byte_level(pre: &str) -> Metadata {
        let tokens =
            ["a", "b", "c", "Ġ", "ab", "bc", "abc", "<|im_start|>", "<|im_end|>", "<tool>", "[PAD10]", "[PAD10]"];
        Metadata::default()
            .with("tokenizer.ggml.model", text("gpt2"))
            .with("tokenizer.ggml.pre", text(pre))
            .with("tokenizer.ggml.tokens", texts(&tokens))
            .with("tokenizer.ggml.token_type", Entry::Integers(vec![1, 1, 1, 1, 1, 1, 1, 3, 3, 4, 5, 5]))
            .with("tokenizer.ggml.merges", texts(&["b c", "a b"]))
            .with("tokenizer.ggml.bos_token_id", Entry::Integer(7))
            .with("tokenizer.ggml.eos_token_id", Entry::Integer(8))
    }

    /// A vocabulary of pieces with scores.
    fn pieces() -> Metadata {
        let tokens =
            ["<unk>", "<s>", "</s>", "<0x0A>", "<0xC3>", "<0xA9>", "▁", "a", "b", "c", "ab", "bc", "▁ab", "<|im_end|>"];
        let scores = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0, -1000.0];
        Metadata::default()
            .with("tokenizer.ggml.model", text("llama"))
            .with("tokenizer.ggml.tokens", texts(&tokens))
            .with("tokenizer.ggml.scores", Entry::Numbers(scores.to_vec()))
            .with("tokenizer.ggml.token_type", Entry::Integers(vec![2, 3, 3, 6, 6, 6, 1, 1, 1, 1, 1, 1, 1, 4]))
    }

    fn made(metadata: &Metadata) -> BTreeMap<String, Vec<u8>> {
        files(metadata).expect("tokenizer files")
    }

    fn tokenizer(files: &BTreeMap<String, Vec<u8>>) -> Tokenizer {
        Tokenizer::from_bytes(&files["tokenizer.json"], files.get("tokenizer_config.json").map(Vec::as_slice))
            .expect("a tokenizer")
    }

    fn json(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Value {
        serde_json::from_slice(&files[name]).expect("JSON")
    }

    #[test]
    fn every_vocabulary_gives_the_ids_of_the_tokenizer_that_it_was_made_from() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/gguf/vocab");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).expect("the folder of vocabularies") {
            let folder = entry.expect("an entry").path();
            let read = |name: &str| std::fs::read(folder.join(name)).expect(name);
            let source = Memory::new().with("vocab.gguf", read("vocab.gguf"));
            // Memory is ready at once.
            let head = head::read(&source, "vocab.gguf").now_or_never().expect("no waiting").expect("a head");
            let ours = tokenizer(&made(&head.metadata));
            let theirs = Tokenizer::from_bytes(&read("tokenizer.json"), None).expect("a tokenizer");
            assert!(ours.added_tokens().eq(theirs.added_tokens()), "{folder:?}");
            let texts: Vec<Value> = serde_json::from_slice(&read("texts.json")).expect("texts");
            for entry in &texts {
                let text = entry["text"].as_str().expect("a text");
                let wanted: Vec<u32> = serde_json::from_value(entry["ids"].clone()).expect("ids");
                let ids = ours.encode(text).expect("ids");
                assert_eq!(ids, wanted, "{folder:?}: {text:?}");
                assert_eq!(
                    ours.decode(&ids).expect("text"),
                    theirs.decode(&ids).expect("text"),
                    "{folder:?}: {text:?}"
                );
            }
            assert!(texts.len() > 100);
            seen += 1;
        }
        assert!(seen >= 11, "{seen} vocabularies");
    }

    #[test]
    fn every_pre_tokenizer_makes_a_tokenizer() {
        let mut names: Vec<&str> = PreTokenizer::names().collect();
        for name in &names {
            let tokenizer = tokenizer(&made(&byte_level(name)));
            let ids = tokenizer.encode_prompt("cab").expect("ids");
            assert_eq!(tokenizer.decode(&ids).expect("text"), "cab", "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_byte_level_vocabulary_becomes_a_tokenizer() {
        let files = made(&byte_level("qwen2"));
        let qwen2 = tokenizer(&files);
        // The merge that is listed first goes first, and `abc` comes from no merge.
        assert_eq!(qwen2.encode("abc ab<tool>a<|im_end|>").expect("ids"), [0, 5, 3, 4, 9, 0, 8]);
        assert_eq!(qwen2.decode(&[7, 0, 5, 3, 4, 9, 8, 10, 11]).expect("text"), "abc ab<tool>");
        let added: Vec<_> = qwen2.added_tokens().collect();
        assert_eq!(added, [("<|im_start|>", true), ("<|im_end|>", true), ("<tool>", false)]);
        let config = json(&files, "tokenizer_config.json");
        assert_eq!((&config["bos_token"], &config["eos_token"]), (&"<|im_start|>".into(), &"<|im_end|>".into()));
        assert_eq!(json(&files, "generation_config.json"), serde_json::json!({"eos_token_id": [8]}));
        assert!(!files.contains_key("chat_template.jinja"));
        // A whole word that is a token, and a token in front of the text.
        let llama = tokenizer(&made(&byte_level("llama-bpe")));
        assert_eq!(llama.encode("abc ab").expect("ids"), [7, 6, 3, 4]);
        assert_eq!(llama.encode_prompt("abc").expect("ids"), [6]);
    }

    #[test]
    fn tokens_around_a_text_are_those_that_the_metadata_asks_for() {
        let around = |bos: Option<bool>, eos: Option<bool>, pre: &str| {
            let mut metadata = byte_level(pre);
            for (key, flag) in [("tokenizer.ggml.add_bos_token", bos), ("tokenizer.ggml.add_eos_token", eos)] {
                if let Some(flag) = flag {
                    metadata = metadata.with(key, Entry::Flag(flag));
                }
            }
            tokenizer(&made(&metadata)).encode("a").expect("ids")
        };
        assert_eq!(around(None, None, "tekken"), [7, 0]);
        assert_eq!(around(Some(false), None, "tekken"), [0]);
        assert_eq!(around(Some(true), Some(true), "gpt-2"), [7, 0, 8]);
        assert_eq!(around(None, Some(true), "gpt-2"), [0, 8]);
    }

    #[test]
    fn pieces_with_scores_become_a_tokenizer() {
        let files = made(&pieces());
        let scored = tokenizer(&files);
        // `bc` has the better score, then `▁ab` has no `▁a` to be made of but `▁` and `ab`.
        assert_eq!(scored.encode("abc ab").expect("ids"), [1, 6, 7, 11, 12]);
        assert_eq!(scored.encode("a\né<|im_end|>b").expect("ids"), [1, 6, 7, 3, 4, 5, 13, 6, 8]);
        assert_eq!(scored.encode("</s>?").expect("ids"), [1, 2, 6, 0]);
        assert_eq!(scored.decode(&[1, 6, 7, 11, 12, 3, 4, 5, 13]).expect("text"), "abc ab\né");
        let config = json(&files, "tokenizer_config.json");
        assert_eq!((&config["bos_token"], &config["unk_token"]), (&"<s>".into(), &"<unk>".into()));
        assert_eq!(json(&files, "generation_config.json")["eos_token_id"], serde_json::json!([2, 13]));
        // Without the space in front.
        let bare = tokenizer(&made(&pieces().with("tokenizer.ggml.add_space_prefix", Entry::Flag(false))));
        assert_eq!(bare.encode("ab ab").expect("ids"), [1, 10, 12]);
        assert_eq!(bare.decode(&[12]).expect("text"), " ab");
        // One score for all: as the tokens follow one another.
        let equal = tokenizer(&made(&pieces().with("tokenizer.ggml.scores", Entry::Numbers(vec![-1000.0; 14]))));
        assert_eq!(equal.encode("abc").expect("ids"), [1, 12, 9]);
    }

    #[test]
    fn text_that_spells_a_control_token_is_merged_to_none() {
        let tokens = texts(&["<unk>", "<s>", "</s>", "<", "s>", "s", ">"]);
        let spelled = Metadata::default()
            .with("tokenizer.ggml.model", text("llama"))
            .with("tokenizer.ggml.tokens", tokens)
            .with("tokenizer.ggml.token_type", Entry::Integers(vec![2, 3, 3, 1, 1, 1, 1]));
        let json = json(&made(&spelled), "tokenizer.json");
        assert_eq!(json["model"]["merges"], serde_json::json!([["s", ">"]]));
    }

    #[test]
    fn templates_ends_and_sampling_become_files() {
        let metadata = byte_level("qwen2")
            .with("tokenizer.chat_template", text("{{ eos_token }}plain"))
            .with("tokenizer.ggml.eot_token_id", Entry::Integer(9))
            .with("tokenizer.ggml.eom_token_id", Entry::Integer(8))
            .with("tokenizer.ggml.padding_token_id", Entry::Integer(u32::MAX.into()))
            .with("general.sampling.temp", Entry::Number(0.6_f32.into()))
            .with("general.sampling.top_k", Entry::Integer(20))
            .with("general.sampling.penalty_repeat", Entry::Number(1.05_f32.into()));
        let files = made(&metadata);
        assert_eq!(files["chat_template.jinja"], b"{{ eos_token }}plain");
        assert_eq!(json(&files, "tokenizer_config.json").get("pad_token"), None);
        let wanted = serde_json::json!({
            "eos_token_id": [8, 9], "temperature": 0.6, "top_k": 20.0, "repetition_penalty": 1.05, "do_sample": true});
        assert_eq!(json(&files, "generation_config.json"), wanted);
        let greedy = made(&metadata.clone().with("general.sampling.temp", Entry::Number(0.0)));
        assert_eq!(json(&greedy, "generation_config.json").get("do_sample"), None);
        // With another template for tools.
        let named = metadata
            .with("tokenizer.chat_templates", texts(&["tool_use"]))
            .with("tokenizer.chat_template.tool_use", text("tools"));
        let files = made(&named);
        let template = ChatTemplate::from_files(Some(&files["tokenizer_config.json"]), None).expect("a template");
        let template = template.expect("a template");
        let render = |tools| {
            let request = RenderRequest { tools, ..RenderRequest::new(&[], true) };
            template.render(&request).expect("a prompt")
        };
        assert_eq!((render(None).as_str(), render(Some(&[])).as_str()), ("<|im_end|>plain", "tools"));
        assert!(!files.contains_key("chat_template.jinja"));
    }

    #[test]
    fn a_model_without_a_vocabulary_has_no_files() {
        assert!(made(&Metadata::default()).is_empty());
        assert!(made(&Metadata::default().with("tokenizer.ggml.model", text("no_vocab"))).is_empty());
    }

    #[test]
    fn faults_name_the_key() {
        let gpt2 = || byte_level("gpt-2");
        let types = |count: usize| Entry::Integers(vec![1; count]);
        let long = "a".repeat(20_000);
        for (metadata, words) in [
            (gpt2().with("tokenizer.ggml.model", text("t5")), &["`tokenizer.ggml.model`", "\"t5\"", "\"llama\""][..]),
            (gpt2().with("tokenizer.ggml.model", Entry::Flag(true)), &["`tokenizer.ggml.model`", "a text"]),
            (
                gpt2().with("tokenizer.ggml.pre", text("viking")),
                &["`tokenizer.ggml.pre`", "\"viking\"", "qwen35", "tekken"],
            ),
            (gpt2().with("tokenizer.ggml.pre", text("")), &["`tokenizer.ggml.pre`", "convert"]),
            (gpt2().with("tokenizer.ggml.tokens", texts(&[])), &["`tokenizer.ggml.tokens`", "empty"]),
            (gpt2().with("tokenizer.ggml.tokens", types(3)), &["`tokenizer.ggml.tokens`", "texts"]),
            (gpt2().with("tokenizer.ggml.token_type", types(3)), &["`tokenizer.ggml.token_type`", "3", "12"]),
            (gpt2().with("tokenizer.ggml.token_type", types(12)), &["`tokenizer.ggml.tokens`", "[PAD10]", "10", "11"]),
            (gpt2().with("tokenizer.ggml.merges", texts(&["a b", "a x"])), &["`tokenizer.ggml.merges`", "\"a x\""]),
            (gpt2().with("tokenizer.ggml.merges", texts(&["c a"])), &["`tokenizer.ggml.merges`", "\"c a\""]),
            (gpt2().with("tokenizer.ggml.merges", texts(&["ab"])), &["`tokenizer.ggml.merges`", "\"ab\""]),
            (gpt2().with("tokenizer.ggml.eos_token_id", text("8")), &["`tokenizer.ggml.eos_token_id`", "id"]),
            (
                gpt2().with("tokenizer.ggml.add_bos_token", types(1)),
                &["`tokenizer.ggml.add_bos_token`", "true or false"],
            ),
            (
                gpt2()
                    .with("tokenizer.ggml.add_bos_token", Entry::Flag(true))
                    .with("tokenizer.ggml.bos_token_id", Entry::Integer(12)),
                &["`tokenizer.ggml.add_bos_token`", "`bos_token`"],
            ),
            (gpt2().with("general.sampling.temp", text("hot")), &["`general.sampling.temp`", "number"]),
            (
                pieces().with("tokenizer.ggml.scores", Entry::Numbers(vec![0.0])),
                &["`tokenizer.ggml.scores`", "1", "14"],
            ),
            (pieces().with("tokenizer.ggml.scores", Entry::Numbers(vec![f32::NAN; 14])), &["`tokenizer.ggml.scores`"]),
            (
                Metadata::default()
                    .with("tokenizer.ggml.model", text("llama"))
                    .with("tokenizer.ggml.tokens", texts(&["<unk>", &long])),
                &["`tokenizer.ggml.tokens`", "id 1", "20000"],
            ),
        ] {
            let fault = files(&metadata).expect_err("a fault was taken");
            for word in words {
                assert!(fault.contains(word), "{fault}");
            }
        }
    }
}
