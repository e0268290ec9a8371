//! Pre-tokenizers by the names of `tokenizer.ggml.pre`: how a text is split before merges.
//!
//! Names are grouped as in llama.cpp (`llama-vocab.cpp`); the expressions are those of the models' own `tokenizer.json`,
//! where llama.cpp has them rewritten for its engine.

use serde_json::{Value, json};

/// A split of a pre-tokenizer.
#[derive(Clone, Copy, Debug)]
enum Split {
    /// Matches of an expression, and what lies between them.
    Regex(&'static str),
    /// Each digit for itself.
    Digits,
    /// Runs of digits.
    Numbers,
    /// Runs of punctuation.
    Punctuation,
    /// The expression of GPT-2, which byte-level pre-tokenizers have built in.
    Gpt2,
}

/// A pre-tokenizer, and what else goes with its names.
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    splits: &'static [Split],
    /// A text between two splits that is a token stays whole, whatever the merges.
    pub ignore_merges: bool,
    /// The token `bos_token` goes in front of a text, where no key says otherwise.
    pub add_bos: bool,
    /// Texts are brought into the normal form NFC. llama.cpp does not.
    nfc: bool,
}

/// Meta-Llama-3 and cl100k.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen2: each digit for itself.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen3.5: marks belong to letters.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral-Nemo: words end where capitals begin.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o and Llama-4: the same with contractions, and three digits.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Ling: possessive, and one line break at a time.
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
/// Seed-Coder: punctuation without line breaks.
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
/// MiniCPM5: Qwen2's behind three digits.
const MINICPM5: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek-V3: up to three digits, Chinese and Japanese, then the rest.
const DEEPSEEK3: [Split; 3] = [
    Split::Regex(r"\p{N}{1,3}"),
    Split::Regex(r"[一-龥぀-ゟ゠-ヿ]+"),
    Split::Regex(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
    ),
];

const PLAIN: PreTokenizer = PreTokenizer { names: &[], splits: &[], ignore_merges: false, add_bos: false, nfc: false };

static TABLE: [PreTokenizer; 17] = [
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "exaone4",
            "granite-docling",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "trillion",
            "jais",
        ],
        splits: &[Split::Gpt2],
        ..PLAIN
    },
    // Tokenizers of GPT-NeoX.
    PreTokenizer { names: &["mpt", "olmo"], splits: &[Split::Gpt2], nfc: true, ..PLAIN },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"],
        splits: &[Split::Digits, Split::Gpt2],
        ..PLAIN
    },
    PreTokenizer { names: &["command-r"], splits: &[Split::Digits, Split::Gpt2], nfc: true, ..PLAIN },
    PreTokenizer {
        names: &["falcon"],
        splits: &[Split::Punctuation, Split::Gpt2, Split::Numbers, Split::Regex("[0-9][0-9][0-9]")],
        ..PLAIN
    },
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "lfm2",
            "midm-2.0",
            "jina-v5-nano",
        ],
        splits: &[Split::Regex(LLAMA3)],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    PreTokenizer { names: &["glm4", "glm5"], splits: &[Split::Regex(LLAMA3)], ignore_merges: true, ..PLAIN },
    PreTokenizer { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], splits: &[Split::Regex(LLAMA3)], ..PLAIN },
    PreTokenizer { names: &["qwen2", "stablelm2"], splits: &[Split::Regex(QWEN2)], nfc: true, ..PLAIN },
    PreTokenizer {
        names: &["deepseek-r1-qwen", "hunyuan", "megrez", "kormo", "f2llmv2", "solar-open", "grok-2"],
        splits: &[Split::Regex(QWEN2)],
        ..PLAIN
    },
    PreTokenizer { names: &["qwen35"], splits: &[Split::Regex(QWEN35)], nfc: true, ..PLAIN },
    PreTokenizer { names: &["tekken"], splits: &[Split::Regex(TEKKEN)], ignore_merges: true, add_bos: true, ..PLAIN },
    PreTokenizer {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        splits: &[Split::Regex(GPT4O)],
        ..PLAIN
    },
    PreTokenizer { names: &["bailingmoe", "bailingmoe2", "llada-moe"], splits: &[Split::Regex(BAILING)], ..PLAIN },
    PreTokenizer { names: &["seed-coder"], splits: &[Split::Regex(SEED_CODER)], ..PLAIN },
    PreTokenizer { names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], splits: &DEEPSEEK3, ..PLAIN },
    PreTokenizer {
        names: &["minicpm5"],
        splits: &[Split::Regex(r"\p{N}{1,3}"), Split::Regex(MINICPM5)],
        ignore_merges: true,
        ..PLAIN
    },
];

impl PreTokenizer {
    /// The pre-tokenizer of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|row| row.names.contains(&name))
    }

    /// All names that are read.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().flat_map(|row| row.names).copied()
    }

    /// The normalizer as `tokenizer.json` has it.
    pub fn normalizer(&self) -> Value {
        if self.nfc { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// The pre-tokenizer as `tokenizer.json` has it.
    pub fn json(&self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let mut parts: Vec<Value> = vec![];
        for split in self.splits {
            parts.push(match *split {
                Split::Regex(regex) => {
                    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
                }
                Split::Digits => json!({"type": "Digits", "individual_digits": true}),
                Split::Numbers => json!({"type": "Digits", "individual_digits": false}),
                Split::Punctuation => json!({"type": "Punctuation", "behavior": "Contiguous"}),
                Split::Gpt2 => byte_level(true),
            });
        }
        // Bytes become letters once.
        if !self.splits.iter().any(|split| matches!(split, Split::Gpt2)) {
            parts.push(byte_level(false));
        }
        json!({"type": "Sequence", "pretokenizers": parts})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of a text as a pre-tokenizer splits it, a letter a byte.
    fn split(name: &str, text: &str) -> Vec<String> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper};
        let json = PreTokenizer::named(name).expect(name).json();
        let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(json).expect(name);
        let mut pieces = PreTokenizedString::from(text);
        pre_tokenizer.pre_tokenize(&mut pieces).expect(name);
        let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.into_iter().map(|(piece, ..)| piece.to_owned()).collect()
    }

    #[test]
    fn pre_tokenizers_split_as_their_expressions_say() {
        const TEXT: &str = "I'll pay 12345, OK?\n\n  x";
        for (names, wanted) in [
            (["gpt-2", "mpt"], "I 'll Ġpay Ġ12345 , ĠOK ? ĊĊĠ Ġx"),
            (["smollm", "refact"], "I 'll Ġpay Ġ 1 2 3 4 5 , ĠOK ? ĊĊĠ Ġx"),
            (["command-r", "starcoder"], "I 'll Ġpay Ġ 1 2 3 4 5 , ĠOK ? ĊĊĠ Ġx"),
            (["falcon", "falcon"], "I ' ll Ġpay Ġ 123 45 , ĠOK ? ĊĊĠ Ġx"),
            (["llama-bpe", "falcon-h1"], "I 'll Ġpay Ġ 123 45 , ĠOK ?ĊĊ Ġ Ġx"),
            (["dbrx", "glm4"], "I 'll Ġpay Ġ 123 45 , ĠOK ?ĊĊ Ġ Ġx"),
            (["qwen2", "hunyuan"], "I 'll Ġpay Ġ 1 2 3 4 5 , ĠOK ?ĊĊ Ġ Ġx"),
            (["qwen35", "bailingmoe"], "I 'll Ġpay Ġ 1 2 3 4 5 , ĠOK ?ĊĊ Ġ Ġx"),
            (["tekken", "tekken"], "I 'll Ġpay Ġ 1 2 3 4 5 , ĠOK ?ĊĊ Ġ Ġx"),
            (["gpt-4o", "llama4"], "I'll Ġpay Ġ 123 45 , ĠOK ?ĊĊ Ġ Ġx"),
            (["seed-coder", "seed-coder"], "I 'll Ġpay Ġ 1 2 3 4 5 , ĠOK ? ĊĊ Ġ Ġx"),
            (["deepseek-v3", "minicpm5"], "I 'll Ġpay Ġ 123 45 , ĠOK ?ĊĊ Ġ Ġx"),
        ] {
            for name in names {
                assert_eq!(split(name, TEXT), wanted.split(' ').collect::<Vec<_>>(), "{name}");
            }
        }
        assert_eq!(split("tekken", "camelCaseHTTPServer"), ["camel", "Case", "HTTPServer"]);
        assert_eq!(split("llama-bpe", "camelCase"), ["camelCase"]);
        assert_eq!(split("bailingmoe", "'S'x"), ["'S", "'x"]);
        // Marks, which Qwen2 parts from their letters, and Chinese, which DeepSeek parts from Latin.
        for (name, text, pieces) in
            [("qwen35", "हिन्दी 1", 3), ("qwen2", "हिन्दी 1", 6), ("deepseek-v3", "日本x", 2), ("qwen2", "日本x", 1)]
        {
            assert_eq!(split(name, text).len(), pieces, "{name}: {text}");
        }
    }
}
