use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{TextError, Tokenizer};
use super::charsmap::tests::{encode, map};

const DEMO: &str = include_str!("../../../assets/demo/tokenizer.json");

/// Small tokenizers of every model, with parts of every kind that is taken.
fn bases() -> Vec<Value> {
    let part = |name: &str| json!({"type": name});
    let token = |id: u32, content: &str, special: bool, normalized: bool, strip: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": strip, "rstrip": strip,
               "normalized": normalized, "special": special})
    };
    let added = json!([
        token(0, "<s>", true, false, true),
        token(1, "</s>", true, true, false),
        token(2, " b", false, true, false),
        token(3, "Ab", false, false, true)
    ]);
    let around = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}});
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let words = json!({"<s>": 0, "</s>": 1, " b": 2, "Ab": 3, "<unk>": 4, "a": 5, "##a": 6, "b": 7, "##b": 8, "##ab": 9,
        "▁": 10, "ab": 11, "<0x41>": 12, "é": 13});
    let file = |normalizer: Value, pre: Value, post: Value, decoder: Value, model: Value| {
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
               "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model})
    };
    let split = json!({"type": "Split", "pattern": {"Regex": r"\p{L}+|\s+(?!\S)|\s+"}, "behavior": "Isolated", "invert": false});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let space = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
    vec![
        serde_json::from_str(DEMO).expect("JSON"),
        file(
            json!({"type": "Sequence", "normalizers": [part("NFC"), part("Lowercase"), {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]}),
            json!({"type": "Sequence", "pretokenizers": [split, bytes, {"type": "Digits", "individual_digits": true}]}),
            json!({"type": "Sequence", "processors": [bytes, around]}),
            json!({"type": "Sequence", "decoders": [replace("▁", " "), part("ByteFallback"), part("Fuse"),
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
            json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": "##",
                "end_of_word_suffix": "</w>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                "vocab": words, "merges": [["a", "##b"]]}),
        ),
        file(
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
            json!({"type": "Sequence", "pretokenizers": [part("BertPreTokenizer"), {"type": "FixedLength", "length": 5}]}),
            json!({"type": "BertProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]}),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            json!({"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": words}),
        ),
        file(
            json!({"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": encode(&map("bé"))},
                {"type": "Strip", "strip_left": true, "strip_right": true}, part("StripAccents"), part("Nmt"), part("NFKD")]}),
            space.clone(),
            around.clone(),
            space,
            json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true,
                "vocab": [["<unk>", 0.0], ["▁", -1.0], ["a", -2.0], ["b", -3.0], ["ab", -2.5], ["é", -4.0]]}),
        ),
        file(
            json!({"type": "Sequence", "normalizers": [part("ByteLevel"), part("NFD")]}),
            json!({"type": "Sequence", "pretokenizers": [part("Whitespace"), part("UnicodeScripts"), part("WhitespaceSplit"),
                {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "CharDelimiterSplit", "delimiter": "x"}]}),
            json!({"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true}),
            json!({"type": "BPEDecoder", "suffix": "</w>"}),
            json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": words}),
        ),
    ]
}

const TEXTS: [&str; 6] =
    ["", "a", " Ab b ab  <s> b</s>aab", "é\u{301}日本 🦊\n\n\tx1,2", "<0x41> ﷺ ™ İ", "aAbb b<s> b </s> Ab bAb"];

/// Encodes and decodes what there is; errors are fine, and nothing grows.
fn use_all(tokenizer: &Tokenizer, texts: &[&str]) {
    for text in texts {
        for ids in [tokenizer.encode(text), tokenizer.encode_prompt(text)].into_iter().flatten() {
            assert!(ids.len() <= 4096 * (text.len() + 1), "{} ids of {text:?}", ids.len());
            let _ = tokenizer.decode(&ids);
            let mut stream = tokenizer.stream();
            for &id in &ids {
                let _ = stream.push(id);
            }
            let _ = stream.finish();
        }
    }
    let _ = tokenizer.decode(&(0..32).collect::<Vec<_>>());
    for id in (0..32).chain([1 << 24, u32::MAX]) {
        let _ = tokenizer.decode(&[id]);
    }
}

fn load(file: &Value) -> Result<Tokenizer, TextError> {
    Tokenizer::from_bytes(file.to_string().as_bytes(), None)
}

#[test]
fn every_kind_of_tokenizer_is_taken_and_used() {
    for base in bases() {
        use_all(&load(&base).unwrap_or_else(|error| panic!("{error}: {}", base["model"]["type"])), &TEXTS);
    }
}

#[test]
fn files_that_break_the_library_are_refused_with_the_part_and_the_fault() {
    let edit = |base: usize, pointer: &str, value: Value| {
        let mut file = bases().swap_remove(base);
        *file.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        file
    };
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let chain: Vec<Value> = (0..10).map(|_| replace("a", "aa")).collect();
    let round: Vec<Value> = (0..8).map(|at| replace(["a", "b"][at % 2], ["bb", "aa"][at % 2])).collect();
    let mut deep = json!({"type": "NFC"});
    for _ in 0..DEEP {
        deep = json!({"type": "Sequence", "normalizers": [deep]});
    }
    const DEEP: usize = 20;
    let sequence = |parts: Vec<Value>| json!({"type": "Sequence", "normalizers": parts});
    let long = "x".repeat(5000);
    let around =
        |count: usize| bases()[3]["post_processor"]["single"].as_array().map(|single| vec![single[0].clone(); count]);
    for (file, words) in [
        (edit(3, "/normalizer/normalizers/0/precompiled_charsmap", json!("AAAAAAAA")), ["normalizer", "character map"]),
        (edit(3, "/normalizer/normalizers/0/precompiled_charsmap", json!("no base64")), ["Precompiled", "base64"]),
        (edit(3, "/post_processor/special_tokens", json!({})), ["post_processor", "\"<s>\""]),
        (edit(3, "/post_processor/single/1/Sequence/id", json!("B")), ["TemplateProcessing", "second text"]),
        (edit(3, "/post_processor/single", json!(around(3))), ["TemplateProcessing", "0 times"]),
        (edit(3, "/post_processor/special_tokens/<s>/tokens", json!([])), ["\"<s>\"", "one length"]),
        (
            edit(1, "/post_processor/processors/0", bases()[3]["post_processor"].clone()),
            ["post_processor", "two parts"],
        ),
        (edit(1, "/model/merges", json!([["a", "b"]])), ["second half", "\"##\""]),
        (edit(1, "/model/merges", json!(["a é"])), ["second half", "\"##\""]),
        (edit(1, "/model/continuing_subword_prefix", json!(long)), ["continuing_subword_prefix", "64"]),
        (edit(1, "/model/vocab", json!({})), ["vocabulary", "empty"]),
        (edit(3, "/model/vocab", json!([])), ["vocabulary", "empty"]),
        (edit(1, "/model/vocab", json!({"a": 4_294_967_295_u32})), ["4294967295", "beyond"]),
        (edit(1, "/model/vocab", json!({long.clone(): 1})), ["5000 bytes", "4096"]),
        (edit(3, "/model/vocab", json!([[long[..600], 0.0]])), ["600 bytes", "512"]),
        (edit(2, "/model/max_input_chars_per_word", json!(1_000_000)), ["max_input_chars_per_word", "1000"]),
        (edit(2, "/pre_tokenizer/pretokenizers/1/length", json!(0)), ["FixedLength", "nothing"]),
        (edit(1, "/pre_tokenizer/pretokenizers/0/pattern", json!({"Regex": "(?=a\\K)"})), ["Split", "\\K"]),
        (edit(1, "/pre_tokenizer/pretokenizers/0/pattern", json!({"Regex": "(a+)+(?!b)"})), ["Split", "exponential"]),
        (edit(1, "/decoder/decoders/3/stop", json!(1)), ["Strip", "stop"]),
        (
            edit(
                1,
                "/decoder/decoders/1",
                json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "", "cleanup": true}),
            ),
            ["decoder", "CTC"],
        ),
        (edit(4, "/decoder/suffix", json!("")), ["BPEDecoder", "empty"]),
        (edit(1, "/normalizer", sequence(chain)), ["normalizer", "times as long"]),
        (edit(1, "/normalizer", sequence(round)), ["normalizer", "times as long"]),
        (edit(1, "/normalizer", sequence(vec![replace("", "aaa")])), ["Replace", "0 bytes"]),
        (edit(1, "/normalizer", sequence(vec![replace("a", &long)])), ["Replace", "times as long"]),
        (edit(1, "/normalizer", json!({"type": "Prepend", "prepend": long})), ["Prepend", "in front"]),
        (edit(1, "/normalizer", json!({"type": "Prepend", "prepend": ""})), ["Prepend", "an empty text"]),
        // The library goes by the fields where it does not know the name.
        (edit(1, "/normalizer", json!({"type": "BertNormalizer", "prepend": long})), ["normalizer", "in front"]),
        (edit(1, "/normalizer", deep), ["nested", "deep"]),
        (edit(1, "/normalizer", sequence(vec![json!({"type": "ByteLevel"}); 3])), ["ByteLevel", "more than 2"]),
        (edit(1, "/normalizer", sequence(vec![json!({"type": "NFC"}); 100])), ["normalizer", "64 parts"]),
        (edit(1, "/normalizer", json!({"type": "Unheard"})), ["normalizer", "\"Unheard\""]),
        (edit(1, "/normalizer", json!({"normalizers": []})), ["normalizer", "no type"]),
        (edit(1, "/decoder/decoders/0", replace("▁", &long)), ["decoder", "times as long"]),
        (edit(1, "/added_tokens/0/content", json!(long)), ["added token 0", "5000 bytes"]),
        (edit(1, "/added_tokens/0/id", json!(4_000_000_000_u32)), ["4000000000", "beyond"]),
        // The normalizer strips all of it.
        (edit(3, "/added_tokens/1/content", json!("  ")), ["added token", "leaves nothing"]),
        (edit(0, "/model", Value::Null), ["tokenizer.json", "model"]),
    ] {
        let error = load(&file).err().unwrap_or_else(|| panic!("taken: {words:?}")).to_string();
        assert!(
            error.starts_with("tokenizer.json") && words.iter().all(|word| error.contains(word)),
            "{words:?}: {error}"
        );
    }
    for (text, word) in
        [("{\"model\": {\"vocab\": {\"a\": 0}}, \"model\": {}}", "twice"), ("{\"models\": {}}", "no part")]
    {
        let error = Tokenizer::from_bytes(text.as_bytes(), None).err().expect(text).to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_text_too_long_for_the_growth_of_a_tokenizer_is_refused() {
    let mut file = bases().swap_remove(3);
    file["normalizer"]["normalizers"][0]["precompiled_charsmap"] = json!(encode(&map(&"é".repeat(32))));
    let tokenizer = load(&file).expect("a tokenizer");
    let error = tokenizer.encode(&"a".repeat(4 << 20)).expect_err("too long").to_string();
    assert!(error.contains("times as long"), "{error}");
    assert!(tokenizer.encode("a").is_ok());
}

/// Paths to all values of a file, but for most of the tokens.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            map.iter().take(24).for_each(|(key, value)| paths(value, &format!("{path}/{}", escaped(key)), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().take(12).for_each(|(at, value)| paths(value, &format!("{path}/{at}"), found));
        }
        _ => {}
    }
}

/// A copy of `file` in which one value is replaced.
fn mutant(file: &Value, old: &Value, choice: usize, other: usize) -> Value {
    let mut all = vec![];
    paths(file, "", &mut all);
    match choice {
        0 => Value::Null,
        1 => json!(0),
        2 => json!(u32::MAX),
        3 => json!(-1.5e300),
        4 => json!(""),
        5 => json!([]),
        6 => json!({}),
        7 => json!([old, old]),
        8 => json!(["a ", " ", "é", "▁", "(", ".*?", "<0xé>", "#"][other % 8]),
        9 => json!("aé ".repeat(1 << (other % 14))),
        10 => {
            json!({"type": "Sequence", "normalizers": [old, old], "pretokenizers": [old, old], "processors": [old, old], "decoders": [old, old]})
        }
        11 => old.as_bool().map_or(json!(1), |flag| json!(!flag)),
        // Another value of the same file or of another one.
        12 => file.pointer(&all[other % all.len()]).cloned().unwrap_or_default(),
        _ => {
            let base = bases().swap_remove(other % 5);
            let mut all = vec![];
            paths(&base, "", &mut all);
            base.pointer(&all[other / 5 % all.len()]).cloned().unwrap_or_default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A panic here would end a browser's tab.
    #[test]
    fn mutated_files_are_refused_or_work(
        base in 0usize..5,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..16, any::<u16>()), 1..4),
        text in r"[ab AB<s>/é▁#\n]{0,12}",
    ) {
        // The demo's own file is large: fewer of it.
        let base = if base == 0 && edits.len() > 1 { 1 } else { base };
        let mut file = bases().swap_remove(base);
        for (place, choice, other) in edits {
            let mut all = vec![];
            paths(&file, "", &mut all);
            let path = place.get(&all).clone();
            let (parent, key) = path.rsplit_once('/').unwrap_or_default();
            let key = key.replace("~1", "/").replace("~0", "~");
            let old = file.pointer(&path).cloned().unwrap_or_default();
            let new = mutant(&file, &old, choice, other.into());
            if choice == 14 {
                // Without it.
                match file.pointer_mut(parent) {
                    Some(Value::Object(map)) => drop(map.remove(&key)),
                    Some(Value::Array(list)) => drop(list.pop()),
                    _ => {}
                }
            } else if let Some(value) = file.pointer_mut(&path) {
                *value = new;
            }
        }
        if let Ok(tokenizer) = load(&file) {
            use_all(&tokenizer, &[&TEXTS[..], &[text.as_str()]].concat());
        }
    }

    #[test]
    fn cut_and_flipped_bytes_are_refused_or_work(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = bases().swap_remove(1).to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(tokenizer) = Tokenizer::from_bytes(&bytes, None) {
            use_all(&tokenizer, &TEXTS);
        }
    }
}
