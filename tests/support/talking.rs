//! Goldens that talk: a golden's weights with a tokenizer and a chat template of the tests.

use selvedge::checkpoint::{Checkpoint, Memory};
use serde_json::{Map, json};

use super::scripted::CHATML;
use super::{folder, wait};

/// Letters of the tokenizer: as many as English needs, and the line end and the space as byte-level tokenizers write
/// them.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz.,?0123456789\u{10a}\u{120}";

/// The checkpoint of a golden that talks.
pub fn talking(name: &str) -> Checkpoint {
    let files = files(name).into_iter().fold(Memory::new(), |memory, (name, bytes)| memory.with(name, bytes));
    wait(Checkpoint::open(files)).expect("a checkpoint")
}

/// The files of a golden whose vocabulary is letters, words that no text is tokenized into, as a model may write what
/// its tokenizer would not, and ChatML's two control tokens.
pub fn files(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let read = |file: &str| std::fs::read(folder(name).join(file)).expect("a golden's file");
    // Letters have the ids of images.
    let config = String::from_utf8(read("config.json")).expect("a text");
    let config = config.replace("\"image_token_id\"", "\"unused_1\"").replace("\"video_token_id\"", "\"unused_2\"");
    // No JSON where a limit is `Infinity`, as Python writes it.
    let size = config.split("\"vocab_size\":").nth(1).and_then(|rest| rest.split([',', '\n']).next());
    let size: usize = size.expect("a size").trim().parse().expect("a number");
    let mut vocabulary: Map<String, serde_json::Value> = Map::new();
    LETTERS.chars().for_each(|letter| drop(vocabulary.insert(letter.into(), vocabulary.len().into())));
    let pairs = ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("{a}{b}")));
    for pair in pairs.take(size - 2 - vocabulary.len()) {
        vocabulary.insert(pair, vocabulary.len().into());
    }
    let control = |id: usize, text: &str| json!({"id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [control(size - 2, "<|im_start|>"), control(size - 1, "<|im_end|>")],
        "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    vec![
        ("config.json", config.into_bytes()),
        ("model.safetensors", read("model.safetensors")),
        ("tokenizer.json", tokenizer.to_string().into_bytes()),
        ("chat_template.jinja", CHATML.as_bytes().to_vec()),
    ]
}
