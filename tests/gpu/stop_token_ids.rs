//! End tokens, more of them than a device watches for.

use crate::support::scripted::Scripted;
use crate::support::{Setting, load, places, wait};
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::generate::{Chat, ChatRequest, FinishReason, chat_template};
use selvedge::text::{ChatMessage, Piece};

#[test]
fn an_end_that_no_device_watches_for_leaves_the_slot_where_it_was() {
    let folder = Scripted::many_ends(40).write();
    let checkpoint = wait(Checkpoint::open(Folder::open(folder.path()).expect("a folder"))).expect("a checkpoint");
    for place in places() {
        let mut engine = load(&place, &checkpoint, Setting { context: Some(200), ..Setting::default() });
        let template = wait(chat_template(&checkpoint)).expect("valid").expect("a template");
        let mut chat = Chat::new(&engine, template).expect("a tokenizer");
        let mut messages = vec![];
        for turn in 0..3 {
            messages.push(ChatMessage::new("user", "hello"));
            let mut reply = wait(chat.begin(&mut engine, &ChatRequest::new(messages.clone()))).expect("a turn");
            let mut answer = String::new();
            while let Some(spoken) = wait(reply.next(&mut engine)).expect("a token") {
                spoken.pieces.iter().for_each(|piece| match piece {
                    Piece::Answer(text) | Piece::Thinking(text) => answer.push_str(text),
                });
            }
            let (reason, made) = (reply.finish_reason(), reply.made_tokens());
            let prompt = reply.prompt_tokens();
            wait(chat.end(&mut engine, reply)).expect("an end");
            let wanted = ("Fine weather", Some(FinishReason::Stop), 3);
            assert_eq!((answer.as_str(), reason, made), wanted, "{}, turn {turn}", place.name);
            // The slot has read the prompt and all that was said but the end.
            assert_eq!(chat.length(), prompt + 2, "{}, turn {turn}", place.name);
            messages.push(ChatMessage::new("assistant", answer));
        }
    }
}
