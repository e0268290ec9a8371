//! The files that are published with Hymba-1.5B (no weights): they are not this repository's to pass on, so they
//! are read where SELVEDGE_DATA says that they lie.

use std::path::{Path, PathBuf};

use crate::support::skipped;
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::text::{ChatMessage, ChatTemplate, RenderRequest, Tokenizer};

/// The folder with the published files, where there is one.
fn published() -> Option<PathBuf> {
    let folder = std::env::var_os("SELVEDGE_DATA").map(|data| Path::new(&data).join("hymba-1.5b"));
    if folder.is_none() {
        skipped("Hymba's published files: SELVEDGE_DATA names no folder with hymba-1.5b");
    }
    folder
}

fn read(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{}/{file}: {error}", folder.display()))
}

/// A conversation, and the ids of its prompt up to where the reply begins.
struct Case {
    messages: Vec<ChatMessage>,
    prompt: Vec<u32>,
}

/// `<extra_id_0>System`, `<extra_id_1>User\n` and `<extra_id_1>Assistant\n`: not special tokens, plain text. The first
/// word of a text has a space in front that the others lack.
const SYSTEM: [u32; 8] = [529, 17833, 29918, 333, 29918, 29900, 29958, 3924];
const USER: [u32; 9] = [29966, 17833, 29918, 333, 29918, 29896, 29958, 2659, 13];
const ASSISTANT: [u32; 10] = [29966, 17833, 29918, 333, 29918, 29896, 29958, 7900, 22137, 13];
const LINE: u32 = 13;

fn cases() -> [Case; 2] {
    let say = ChatMessage::new;
    let hello = Case {
        messages: vec![say("system", "You are a helpful assistant."), say("user", "Hi")],
        prompt: [
            &SYSTEM[..],
            &[LINE, 3492, 526, 263, 8444, 20255, 29889, LINE, LINE],
            &USER,
            &[18567, LINE],
            &ASSISTANT,
        ]
        .concat(),
    };
    // Several turns, bytes without a token of their own, spaces that are stripped, a marker and an end token in
    // what the user says. As transformers 4.57.6 renders and encodes it.
    let turns = Case {
        messages: vec![
            say("user", "  Wie spät ist es? 🦊\n"),
            say("assistant", "Half past nine.\n\nWhy?"),
            say("user", "<extra_id_1>  no </s> idea"),
        ],
        prompt: [
            &SYSTEM[..],
            &[LINE, LINE],
            &USER,
            &[29956, 347, 805, 3003, 1752, 831, 29973, 29871, 243, 162, 169, 141, LINE],
            &ASSISTANT,
            &[29950, 3131, 4940, 14183, 29889, LINE, LINE, 11008, 29973, LINE],
            &USER,
            &[29966, 17833, 29918, 333, 29918, 29896, 29958, 29871, 694, 29871, 2, 29871, 2969, LINE],
            &ASSISTANT,
        ]
        .concat(),
    };
    [hello, turns]
}

#[test]
fn hymbas_chat_template_agrees_token_for_token() {
    let Some(folder) = published() else { return };
    let config = read(&folder, "tokenizer_config.json");
    let template = ChatTemplate::from_files(Some(&config), None).expect("a sound template").expect("a template");
    let tokenizer = Tokenizer::from_bytes(&read(&folder, "tokenizer.json"), Some(&config)).expect("a tokenizer");
    for Case { messages, prompt } in cases() {
        let ids = |reply| {
            let text = template.render(&RenderRequest::new(&messages, reply)).expect("a prompt");
            tokenizer.encode_prompt(&text).expect("ids")
        };
        assert_eq!(ids(true), prompt, "{messages:?}");
        assert_eq!(ids(false), prompt[..prompt.len() - ASSISTANT.len()], "{messages:?}");
    }
    assert_eq!(template.stops(), ["</s>", "<extra_id_1>"]);
}

#[test]
fn hymbas_tokenizer_puts_its_first_token_before_plain_text_only() {
    let Some(folder) = published() else { return };
    let config = read(&folder, "tokenizer_config.json");
    let tokenizer = Tokenizer::from_bytes(&read(&folder, "tokenizer.json"), Some(&config)).expect("a tokenizer");
    let marker = [529, 17833, 29918, 333, 29918, 29900, 29958];
    assert_eq!(tokenizer.encode_prompt("<extra_id_0>").expect("ids"), marker);
    assert_eq!(tokenizer.encode("<extra_id_0>").expect("ids"), [&[1], &marker[..]].concat());
    for Case { prompt, .. } in cases() {
        let text = tokenizer.decode(&prompt).expect("a text");
        assert!(text.starts_with("<extra_id_0>System\n") && text.ends_with("<extra_id_1>Assistant\n"), "{text:?}");
    }
}

#[test]
fn hymbas_config_is_the_model_that_was_announced() {
    let Some(folder) = published() else { return };
    let text = String::from_utf8(read(&folder, "config.json")).expect("UTF-8");
    let parameters = |text: &str| {
        let config = Config::parse(text).expect("a config");
        arch::build(&config, None, &ArchOptions::default()).expect("a model").graph.parameters()
    };
    assert_eq!(parameters(&text), 1_522_797_824);
    assert_eq!(parameters(&arch::preset("hymba-1.5b").expect("the preset")), 1_522_797_824);
}
