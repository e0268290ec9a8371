//! Checks of a `tokenizer.json` before the tokenizers library reads it.
//!
//! The library panics on some malformed files (and a panic ends a browser's tab), and follows a file that makes a text
//! grow without end. Every check here is for something that its code (0.22) does: it looks at the fields of a part
//! rather than at its name, because the library goes by fields where it does not know a name.

mod charsmap;
mod growth;
mod json;
mod pattern;

use serde_json::Value;

use super::TextError;
use growth::Growth;
use json::File;

/// Parts of a normalizer, pre-tokenizer, post-processor or decoder; published ones have up to ten.
const MOST_PARTS: usize = 64;
/// Sequences within sequences.
const DEEPEST: usize = 4;
/// Tokens of a vocabulary, and added to one.
const MOST_TOKENS: usize = 1 << 22;
const MOST_ADDED: usize = 1 << 17;
/// Ids are below this.
const MOST_IDS: u64 = 1 << 24;
/// Bytes of a token. Unigram's search takes time by the square of it.
const LONGEST_TOKEN: usize = 4096;
const LONGEST_UNIGRAM: usize = 512;
/// Bytes of an added token, and of all: an automaton is built that finds them.
const LONGEST_ADDED: usize = 512;
const MOST_ADDED_BYTES: usize = 1 << 22;
/// WordPiece's search takes time by the square of it; published: 100 and 200.
const LONGEST_WORD: u64 = 1000;
/// Bytes of a word's prefix or suffix.
const LONGEST_AFFIX: usize = 64;
/// Tokens that a post-processor puts around a text.
const MOST_AROUND: usize = 64;

const NORMALIZERS: &[&str] = &[
    "Bert",
    "BertNormalizer",
    "Strip",
    "StripAccents",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Sequence",
    "Lowercase",
    "Nmt",
    "Precompiled",
    "Replace",
    "Prepend",
    "ByteLevel",
];
const PRE_TOKENIZERS: &[&str] = &[
    "BertPreTokenizer",
    "ByteLevel",
    "Delimiter",
    "CharDelimiterSplit",
    "Metaspace",
    "Whitespace",
    "Sequence",
    "Split",
    "Punctuation",
    "WhitespaceSplit",
    "Digits",
    "UnicodeScripts",
    "FixedLength",
];
const POST_PROCESSORS: &[&str] =
    &["BertProcessing", "RobertaProcessing", "ByteLevel", "TemplateProcessing", "Sequence"];
/// CTC is left out: it drops repeated tokens, which is for speech and for no text.
const DECODERS: &[&str] =
    &["BPEDecoder", "ByteLevel", "WordPiece", "Metaspace", "Sequence", "Replace", "Fuse", "Strip", "ByteFallback"];

/// Checks a file. Gives the most by which encoding makes a text longer, as a factor.
pub(super) fn check(bytes: &[u8]) -> Result<usize, TextError> {
    let file = serde_json::from_slice(bytes).map_err(|e| e.to_string());
    file.and_then(|file| check_file(&file, bytes)).map_err(TextError::Tokenizer)
}

fn check_file(file: &File, bytes: &[u8]) -> Result<usize, String> {
    check_model(file, bytes)?;
    check_added(file)?;
    let mut growth = Growth::default();
    each(&file.normalizer, "normalizer", "normalizers", NORMALIZERS, &mut |part| {
        if part["type"] == "Precompiled" || part.get("precompiled_charsmap").is_some() {
            let map = text(part, "precompiled_charsmap").ok_or("the character map is no text")?;
            growth.precompiled(charsmap::check(map)?)?;
        }
        if let Some(prefix) = text(part, "prepend") {
            growth.prepend(prefix)?;
        }
        if let Some((pattern, content)) = replacement(part)? {
            growth.replace(pattern, content)?;
        }
        growth.named(part["type"].as_str().unwrap_or_default())
    })?;
    each(&file.pre_tokenizer, "pre_tokenizer", "pretokenizers", PRE_TOKENIZERS, &mut |part| {
        if part["length"] == 0 {
            return Err("a FixedLength of 0 splits a text into nothing".into());
        }
        if let Some(pattern) = pattern_of(part)? {
            pattern.check()?;
        }
        growth.named(part["type"].as_str().unwrap_or_default())
    })?;
    let mut around = 0;
    each(&file.post_processor, "post_processor", "processors", POST_PROCESSORS, &mut |part| {
        around += usize::from(part.get("single").is_some() || part.get("cls").is_some());
        if around > 1 {
            return Err("two parts put tokens around a text, and the second one would not know which text".into());
        }
        if part.get("single").is_some() { check_template(part) } else { Ok(()) }
    })?;
    let mut decoded = Growth::default();
    each(&file.decoder, "decoder", "decoders", DECODERS, &mut |part| {
        if part.get("stop").is_some_and(|stop| stop != &Value::from(0)) {
            return Err("Strip with a `stop` fails on a token that is shorter; supported: `start`".into());
        }
        if text(part, "suffix") == Some("") {
            return Err("the suffix of BPEDecoder is empty".into());
        }
        match replacement(part)? {
            Some((pattern, content)) => decoded.replace(pattern, content),
            None => Ok(()),
        }
    })?;
    decoded.factor()?;
    growth.factor()
}

fn check_model(file: &File, bytes: &[u8]) -> Result<(), String> {
    let model = &file.model;
    let vocabulary = &model.vocab;
    if vocabulary.count == 0 {
        return Err("the model's vocabulary is empty".into());
    }
    let longest = if vocabulary.scored { LONGEST_UNIGRAM } else { LONGEST_TOKEN };
    if vocabulary.longest > longest {
        return Err(format!("a token has {} bytes, and {longest} at most are supported", vocabulary.longest));
    }
    if vocabulary.largest_id >= MOST_IDS {
        return Err(format!("token id {} is beyond the {MOST_IDS} that are supported", vocabulary.largest_id));
    }
    if let Some(most) = model.max_input_chars_per_word.filter(|&most| most > LONGEST_WORD) {
        return Err(format!("`max_input_chars_per_word` is {most}, and {LONGEST_WORD} at most is supported"));
    }
    for (name, affix) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if affix.as_ref().is_some_and(|affix| affix.len() > LONGEST_AFFIX) {
            return Err(format!("`{name}` has more than {LONGEST_AFFIX} bytes"));
        }
    }
    match &model.continuing_subword_prefix {
        Some(prefix) if !prefix.is_empty() && model.merges > 0 => json::check_merges(bytes, prefix),
        _ => Ok(()),
    }
}

fn check_added(file: &File) -> Result<(), String> {
    let added = &file.added_tokens;
    let bytes = added.iter().map(|token| token.content.len()).sum::<usize>();
    if bytes > MOST_ADDED_BYTES {
        return Err(format!("the added tokens have {bytes} bytes, and {MOST_ADDED_BYTES} at most are supported"));
    }
    for token in added {
        if token.content.len() > LONGEST_ADDED {
            let length = token.content.len();
            return Err(format!(
                "added token {} has {length} bytes, and {LONGEST_ADDED} at most are supported",
                token.id
            ));
        }
        if u64::from(token.id) >= MOST_IDS {
            return Err(format!("added token id {} is beyond the {MOST_IDS} that are supported", token.id));
        }
    }
    Ok(())
}

/// The template of a text alone: the text once, and special tokens that the part defines.
fn check_template(part: &Value) -> Result<(), String> {
    let pieces = part["single"].as_array().ok_or("`single` of TemplateProcessing is no list")?;
    let mut texts = 0;
    let mut around = 0;
    for piece in pieces {
        if let Some(sequence) = piece.get("Sequence") {
            texts += 1;
            if sequence["id"] != "A" {
                return Err("`single` of TemplateProcessing asks for a second text".into());
            }
        } else {
            let id = piece["SpecialToken"]["id"].as_str().ok_or("a piece of `single` is neither a text nor a token")?;
            let token = part["special_tokens"].get(id);
            let token =
                token.ok_or_else(|| format!("`single` names {id:?}, which `special_tokens` does not define"))?;
            let count = |name: &str| token[name].as_array().map(Vec::len);
            if count("ids").is_none() || count("ids") != count("tokens") {
                return Err(format!("`ids` and `tokens` of {id:?} are no lists of one length"));
            }
            around += count("ids").unwrap_or_default();
        }
    }
    if texts != 1 || around > MOST_AROUND {
        return Err(format!(
            "`single` holds the text {texts} times and {around} tokens; supported: once, and {MOST_AROUND}"
        ));
    }
    Ok(())
}

/// Calls `check` for each part in its order, those within sequences too.
fn each(
    root: &Option<Value>,
    field: &str,
    list: &str,
    known: &[&str],
    check: &mut dyn FnMut(&Value) -> Result<(), String>,
) -> Result<(), String> {
    let mut parts: Vec<(&Value, usize)> = root.iter().map(|part| (part, 0)).collect();
    let mut seen = 0;
    while let Some((part, depth)) = parts.pop() {
        seen += 1;
        if seen > MOST_PARTS || depth > DEEPEST {
            return Err(format!("`{field}` has more than {MOST_PARTS} parts, or sequences {DEEPEST} deep"));
        }
        let name = part["type"].as_str().ok_or_else(|| format!("a part of `{field}` has no type"))?;
        if !known.contains(&name) {
            return Err(format!(
                "`{field}` has the type {name:?}, which is not supported; supported: {}",
                known.join(", ")
            ));
        }
        check(part).map_err(|fault| format!("`{field}`, {name}: {fault}"))?;
        let within = part[list].as_array().into_iter().flatten();
        parts.extend(within.rev().map(|part| (part, depth + 1)));
    }
    Ok(())
}

fn text<'v>(part: &'v Value, name: &str) -> Option<&'v str> {
    part.get(name)?.as_str()
}

fn pattern_of(part: &Value) -> Result<Option<pattern::Pattern<'_>>, String> {
    let Some(value) = part.get("pattern") else { return Ok(None) };
    match (text(value, "String"), text(value, "Regex")) {
        (Some(text), None) => Ok(Some(pattern::Pattern::Text(text))),
        (None, Some(regex)) => Ok(Some(pattern::Pattern::Regex(regex))),
        _ => Err("`pattern` is neither a String nor a Regex".into()),
    }
}

fn replacement(part: &Value) -> Result<Option<(pattern::Pattern<'_>, &str)>, String> {
    let Some(pattern) = pattern_of(part)? else { return Ok(None) };
    pattern.check()?;
    Ok(Some((pattern, text(part, "content").ok_or("a pattern has no content to be replaced with")?)))
}

#[cfg(test)]
mod tests;
