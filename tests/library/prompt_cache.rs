//! Conversations that read nothing twice.

use crate::support::scripted::Scripted;
use crate::support::talking::talking;
use crate::support::{Setting, cpu, demo, load, wait};
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::generate::prompt_cache::{FolderStore, MemoryStore, Missed, Reuse, StoreOptions};
use selvedge::generate::{Chat, ChatRequest, chat_template};
use selvedge::runtime::Engine;
use selvedge::state::{CheckpointKind, Snapshot};
use selvedge::text::ChatMessage;

/// A conversation with the tokens that each turn left.
struct Talk {
    engine: Engine,
    chat: Chat,
    messages: Vec<ChatMessage>,
    /// Tokens read at the end of each turn.
    left: Vec<usize>,
    reply: usize,
    /// Answers come back as the model wrote them.
    verbatim: bool,
    /// Number of the conversation.
    number: Option<u64>,
}

impl Talk {
    fn new(checkpoint: &Checkpoint, context: usize, reply: usize) -> Self {
        let engine = load(&cpu(), checkpoint, Setting { context: Some(context), ..Setting::default() });
        let template = wait(chat_template(checkpoint)).expect("valid").expect("a template");
        let chat = Chat::new(&engine, template).expect("a tokenizer");
        let messages = vec![ChatMessage::new("system", "you are a helpful assistant, and you answer.")];
        Self { engine, chat, messages, left: vec![], reply, verbatim: false, number: None }
    }

    /// One turn.
    fn ask(&mut self, question: &str) -> Reuse {
        self.messages.push(ChatMessage::new("user", question));
        self.answer()
    }

    /// The answer to the messages as they are.
    fn answer(&mut self) -> Reuse {
        let (max_tokens, conversation) = (self.reply, self.number);
        let request = ChatRequest { max_tokens, conversation, ..ChatRequest::new(self.messages.clone()) };
        let mut turn = wait(self.chat.begin(&mut self.engine, &request)).expect("a turn");
        let (mut answer, mut tokens) = (String::new(), vec![]);
        while let Some(delta) = wait(turn.next(&mut self.engine)).expect("a token") {
            delta.answer().for_each(|text| answer.push_str(text));
            tokens.extend(delta.token);
        }
        if self.verbatim {
            // With white space in front of an answer, as random weights write it.
            answer = self.raw(&tokens);
        }
        let reuse = turn.reuse().clone();
        wait(self.chat.end(&mut self.engine, turn)).expect("an end");
        self.left.push(self.chat.length());
        self.messages.push(ChatMessage::new("assistant", answer));
        reuse
    }

    /// A reply as the model wrote it, its control tokens included.
    fn raw(&self, tokens: &[u32]) -> String {
        let tokenizer = self.engine.tokenizer().expect("a tokenizer");
        let text = |&token: &u32| match tokenizer.control_token(token) {
            Some(control) => control.text,
            None => tokenizer.decode(&[token]).expect("a text"),
        };
        let text: String = tokens.iter().map(text).collect();
        text.strip_suffix("<|im_end|>").map_or(text.clone(), str::to_owned)
    }

    /// The same conversation in another process, from a file.
    fn restart(&mut self, checkpoint: &Checkpoint, context: usize) {
        let request = ChatRequest::new(self.messages.clone());
        let snapshot = wait(self.chat.snapshot(&mut self.engine, &request)).expect("a copy").expect("a conversation");
        let bytes = snapshot.to_bytes().expect("a file");
        let fresh = Self::new(checkpoint, context, self.reply);
        (self.engine, self.chat) = (fresh.engine, fresh.chat);
        let snapshot = Snapshot::from_bytes(&bytes).expect("a snapshot");
        assert_eq!(wait(self.chat.restore(&mut self.engine, &snapshot)).expect("the same model"), None);
    }
}

const QUESTIONS: [&str; 5] = ["what is it?", "and why, then?", "who was there?", "tell me more.", "is that all?"];

/// Twenty turns read what is new in them and nothing else; an edit at the third turn reads from there only; so does one
/// after a restart.
fn twenty_turns(name: &str, checkpoint: &Checkpoint, context: usize) {
    let mut talk = Talk::new(checkpoint, context, 12);
    talk.verbatim = name != "demo";
    for turn in 0..20 {
        let before = talk.left.last().copied().unwrap_or(0);
        let reuse = talk.ask(QUESTIONS[turn % 5]);
        println!("{name}, turn {turn}: {} of {} read", reuse.read_tokens(), reuse.prompt_tokens);
        assert_eq!(reuse.cached_tokens, before, "{name}, turn {turn}: {:?}", reuse.missed);
        assert_eq!(reuse.missed, None, "{name}, turn {turn}");
    }
    let (messages, left) = (talk.messages.clone(), talk.left.clone());
    for restarted in [false, true] {
        if restarted {
            talk.messages = messages.clone();
            // The conversation that is kept is the one that was answered last.
            talk.messages.pop();
            talk.answer();
            talk.restart(checkpoint, context);
            talk.messages = messages.clone();
            talk.messages.truncate(talk.messages.len() - 1);
            let reuse = talk.answer();
            assert!(reuse.read_tokens() < 12, "{name}: an exact repeat reads {reuse:?}");
            talk.messages = messages.clone();
            let reuse = talk.ask("one more?");
            assert_eq!((reuse.cached_tokens, reuse.missed), (left[19], None), "{name}: restarted {restarted}");
        }
        talk.messages = messages.clone();
        // System, and two turns.
        talk.messages.truncate(5);
        let reuse = talk.ask("something else?");
        assert_eq!(reuse.cached_tokens, left[1], "{name}: restarted {restarted}");
    }
}

#[test]
fn twenty_turns_of_goldens_read_what_is_new() {
    for name in ["falcon_h1", "nemotron_h", "qwen3_5", "lfm2", "llama"] {
        twenty_turns(name, &talking(name), 1500);
    }
}

#[test]
fn twenty_turns_of_the_demo_model_read_what_is_new() {
    twenty_turns("demo", &demo::checkpoint(), 1500);
}

#[test]
fn an_exact_repeat_reads_the_generation_prompt_only() {
    let mut talk = Talk::new(&talking("falcon_h1"), 500, 8);
    talk.ask("what is it?");
    talk.messages.pop();
    let reuse = talk.answer();
    // `<|im_start|>assistant` and a line end.
    assert_eq!((reuse.read_tokens(), reuse.missed), (11, None));
}

#[test]
fn a_date_in_the_system_prompt_is_told() {
    let mut talk = Talk::new(&talking("falcon_h1"), 500, 8);
    talk.messages[0] = ChatMessage::new("system", "you are helpful. today is monday, 29.");
    talk.ask("what is it?");
    talk.messages[0] = ChatMessage::new("system", "you are helpful. today is tuesday, 30.");
    let reuse = talk.ask("and now?");
    let missed = reuse.missed.expect("a reason");
    // `<|im_start|>system`, a line end, and the text up to the day.
    assert_eq!(missed, Missed::Changed { at: 8 + 26, left: talk.left[0] });
    assert!(missed.to_string().contains("token 34"), "{missed}");
    assert!(reuse.cached_tokens <= 34);
    // Another conversation with it is no change.
    talk.messages.truncate(1);
    let reuse = talk.ask("who is there?");
    assert_eq!(reuse.missed, None);
    assert!(reuse.cached_tokens > 34, "the system prompt is remembered");
}

#[test]
fn thinking_that_is_left_out_is_told() {
    const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'].split('</think>')[-1] + '<|im_end|>\n' }}\
        {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let model = Scripted::new().file("chat_template.jinja", TEMPLATE).special("<think>").special("</think>");
    let folder = model.says(&["<think>", "hmm", "</think>", "Fine", "<|im_end|>"]).write();
    let checkpoint = wait(Checkpoint::open(Folder::open(folder.path()).expect("a folder"))).expect("a checkpoint");
    let mut talk = Talk::new(&checkpoint, 500, 12);
    talk.ask("well?");
    let prompt = talk.left[0] - 4;
    assert_eq!(talk.messages[2].content(), "Fine");
    let reuse = talk.ask("and now?");
    let missed = reuse.missed.expect("a reason");
    assert_eq!(missed, Missed::ThinkingRemoved { at: prompt, left: talk.left[0] });
    // All but the generation prompt and what is behind it.
    assert_eq!(reuse.cached_tokens, prompt - "<assistant\n".len());
}

#[test]
fn what_made_room_for_others_is_told() {
    let mut talk = Talk::new(&talking("falcon_h1"), 300, 8);
    talk.chat.cache_mut().set_bytes(&mut talk.engine, 0);
    talk.ask("what is it?");
    let reuse = talk.ask("and now?");
    assert_eq!(reuse.cached_tokens, 0, "a cache of no bytes keeps nothing");
    talk.chat.cache_mut().set_bytes(&mut talk.engine, 1);
    let talked = |talk: &mut Talk, question: &str| {
        talk.messages.truncate(1);
        talk.ask(question);
        talk.messages.clone()
    };
    let first = talked(&mut talk, "what is it?");
    (0..4).for_each(|i| drop(talked(&mut talk, QUESTIONS[i])));
    assert!(talk.chat.cache().size(&talk.engine).0 <= 3);
    assert!(talk.chat.cache().counts().dropped > 0);
    talk.messages = first;
    let reuse = talk.ask("and now?");
    // The system prompt is never dropped for others.
    assert!(reuse.cached_tokens > 30, "{reuse:?}");
}

/// Conversations that are gone on with outlast any number of others.
#[test]
fn the_ends_of_conversations_go_last() {
    // Pages enough for all of them.
    let mut talk = Talk::new(&talking("granite_h"), 4000, 8);
    talk.verbatim = true;
    let room = 12;
    let bytes = room * talk.engine.layout().block_bytes();
    talk.chat.cache_mut().set_bytes(&mut talk.engine, bytes);
    let mut live = vec![];
    for number in 0..4_u64 {
        talk.number = Some(number);
        talk.messages.truncate(1);
        talk.ask(QUESTIONS[number as usize]);
        live.push((talk.messages.clone(), *talk.left.last().expect("a turn")));
    }
    talk.number = None;
    for i in 0..20 {
        talk.messages.truncate(1);
        talk.ask(&format!("question {i} of somebody?"));
    }
    assert!(talk.chat.cache().counts().dropped > 0);
    assert!(talk.chat.cache().size(&talk.engine).0 as u64 <= room);
    for (number, (messages, left)) in live.into_iter().enumerate() {
        let request = ChatRequest::new(messages.clone());
        let (tokens, remembered) = talk.chat.remembered(&talk.engine, &request).expect("a prompt");
        assert!(remembered == left && left <= tokens, "{remembered} of {left} read in {tokens}");
        (talk.number, talk.messages) = (Some(number as u64), messages);
        let reuse = talk.ask("and now?");
        assert_eq!(reuse.cached_tokens, left, "conversation {number}: {reuse:?}");
    }
}

/// Pages run out for a conversation that needs all of them, and the others make room for it.
#[test]
fn conversations_take_the_pages_of_others() {
    let mut talk = Talk::new(&talking("falcon_h1"), 192, 8);
    for round in 0..4 {
        talk.messages.truncate(1);
        for _ in 0..3 {
            talk.ask(QUESTIONS[round]);
        }
        let (free, all) = talk.engine.pages();
        assert!(free <= all);
    }
    assert!(talk.chat.cache().counts().dropped > 0, "{:?}", talk.chat.cache().counts());
    talk.chat.cache_mut().clear(&mut talk.engine);
    assert_eq!(talk.engine.pages().0, talk.engine.pages().1, "no page is lost");
}

/// A talk that is kept in a folder, and in which every turn was as it should be.
fn in_folder(folder: &std::path::Path, limit: u64) -> Talk {
    let mut talk = Talk::new(&talking("falcon_h1"), 600, 8);
    talk.verbatim = true;
    let store = Box::new(FolderStore::open(folder).expect("a folder"));
    wait(talk.chat.keep_in(&talk.engine, store, StoreOptions { limit, exact: true })).expect("a folder");
    talk
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn bytes(folder: &std::path::Path) -> u64 {
    files(folder).iter().map(|file| std::fs::metadata(file).expect("a file").len()).sum()
}

#[test]
fn a_folder_remembers_for_later_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    // Files of others stay.
    let foreign = folder.path().join("notes.state");
    std::fs::write(&foreign, b"not ours").expect("a written file");
    let mut talk = in_folder(folder.path(), 1 << 30);
    for turn in 0..6 {
        talk.ask(QUESTIONS[turn % 5]);
        let written = bytes(folder.path());
        println!("after turn {turn}: {} files, {written} bytes", files(folder.path()).len());
    }
    let (messages, left) = (talk.messages.clone(), talk.left.clone());
    // One turn later, an edit, and the same text again.
    for (kept, question, cached) in [(13, "one more?", left[5]), (5, "something else?", left[1])] {
        let mut later = in_folder(folder.path(), 1 << 30);
        later.messages = messages[..kept].to_vec();
        let (count, size) = later.chat.cache().stored().expect("a store");
        assert_eq!((count + 1, size + 8), (files(folder.path()).len(), bytes(folder.path())));
        let reuse = later.ask(question);
        assert_eq!(later.chat.cache_mut().take_notices(), Vec::<String>::new());
        assert_eq!(reuse.cached_tokens, cached);
        assert_eq!(later.chat.cache().counts().stored_tokens, cached as u64);
        assert_eq!(std::fs::read(&foreign).expect("a file"), b"not ours");
        // The same answer as without a stop.
        talk.messages = messages[..kept].to_vec();
        talk.ask(question);
        assert_eq!(talk.messages, later.messages);
    }
}

#[test]
fn a_damaged_file_is_told_and_its_text_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut talk = in_folder(folder.path(), 1 << 30);
    for question in &QUESTIONS[..4] {
        talk.ask(question);
    }
    let (messages, left) = (talk.messages.clone(), talk.left.clone());
    let whole: Vec<(std::path::PathBuf, Vec<u8>)> =
        files(folder.path()).into_iter().map(|file| (file.clone(), std::fs::read(file).expect("a file"))).collect();
    for (index, (file, good)) in whole.iter().enumerate() {
        let mut bad = good.clone();
        match index % 3 {
            0 => *bad.last_mut().expect("bytes") ^= 1,
            1 => bad.truncate(good.len() / 2),
            _ => bad.clear(),
        }
        std::fs::write(file, bad).expect("a written file");
        let mut later = in_folder(folder.path(), 1 << 30);
        later.messages = messages.clone();
        let reuse = later.ask("one more?");
        assert!(reuse.cached_tokens < left[3], "the file of {index} is on the way of every text");
        assert!(!later.chat.cache_mut().take_notices().is_empty(), "it is told");
        // Where the text's own tokens were in that file, they are the tokenizer's now.
        assert_eq!(later.messages.len(), messages.len() + 2);
        files(folder.path()).iter().for_each(|file| std::fs::remove_file(file).expect("a file"));
        whole.iter().for_each(|(file, good)| std::fs::write(file, good).expect("a written file"));
    }
}

/// Whoever is ended amid a reply has read the question for good.
#[test]
fn what_was_read_is_kept_before_the_reply() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut talk = in_folder(folder.path(), 1 << 30);
    talk.ask(QUESTIONS[0]);
    talk.messages.push(ChatMessage::new("user", QUESTIONS[1]));
    let request = ChatRequest { max_tokens: 8, ..ChatRequest::new(talk.messages.clone()) };
    let mut turn = wait(talk.chat.begin(&mut talk.engine, &request)).expect("a turn");
    wait(turn.next(&mut talk.engine)).expect("a token");
    let mut later = in_folder(folder.path(), 1 << 30);
    later.messages = talk.messages.clone();
    let (tokens, remembered) = later.chat.remembered(&later.engine, &request).expect("a prompt");
    assert_eq!(remembered, tokens, "up to the end of the question");
    let reuse = later.answer();
    assert_eq!(reuse.cached_tokens, tokens, "{reuse:?}");
    assert_eq!(later.chat.cache_mut().take_notices(), Vec::<String>::new());
    // What is not to be kept is not.
    let before = files(folder.path()).len();
    let request = ChatRequest { keep: false, max_tokens: 8, ..ChatRequest::new(later.messages[..1].to_vec()) };
    let turn = wait(later.chat.begin(&mut later.engine, &request)).expect("a turn");
    wait(later.chat.end(&mut later.engine, turn)).expect("an end");
    assert_eq!(files(folder.path()).len(), before);
}

/// A restart forgets nothing of what a place is: a system prompt stays the last to go.
#[test]
fn the_kinds_of_checkpoints_are_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut talk = in_folder(folder.path(), 1 << 30);
    talk.ask(QUESTIONS[0]);
    talk.ask(QUESTIONS[1]);
    let states = files(folder.path()).into_iter().map(|file| std::fs::read(file).expect("a file"));
    let mut states: Vec<Snapshot> = states.map(|bytes| Snapshot::from_bytes(&bytes).expect("a state")).collect();
    states.sort_by_key(|state| state.read);
    let kinds: Vec<CheckpointKind> = states.iter().map(|state| state.kind).collect();
    use CheckpointKind::{Message, Reply, System};
    assert_eq!(kinds, [System, Message, Reply, Message, Reply]);
    let request = ChatRequest::new(talk.messages.clone());
    let snapshot = wait(talk.chat.snapshot(&mut talk.engine, &request)).expect("a copy").expect("a conversation");
    let kinds: Vec<CheckpointKind> = snapshot.checkpoints.iter().map(|saved| saved.kind).collect();
    assert_eq!((kinds.as_slice(), snapshot.kind), ([System, Message, Reply, Message].as_slice(), Reply));
}

#[test]
fn a_folder_stays_within_its_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut talk = in_folder(folder.path(), 1 << 30);
    talk.ask(QUESTIONS[0]);
    // Room for a few states.
    let limit = 3 * bytes(folder.path()) / 2;
    let mut talk = in_folder(folder.path(), limit);
    for round in 0..8 {
        talk.messages.truncate(1 + 2 * (round % 3));
        talk.ask(QUESTIONS[round % 5]);
        assert!(bytes(folder.path()) <= limit, "round {round}: {} of {limit} bytes", bytes(folder.path()));
        assert_eq!(talk.chat.cache().stored().expect("a store").1, bytes(folder.path()));
    }
    // What is left fits together, also of a conversation that alone is more than the limit.
    for _ in 0..2 {
        let mut later = in_folder(folder.path(), limit);
        later.messages = talk.messages.clone();
        later.ask("one more?");
        later.ask("and then?");
        // Nothing is damaged; that a text does not fit is told, once.
        let notices = later.chat.cache_mut().take_notices();
        assert!(notices.len() <= 1 && notices.iter().all(|notice| notice.contains("and all may take")), "{notices:?}");
    }
    // Another model takes the room of those that nobody uses.
    let store = Box::new(FolderStore::open(folder.path()).expect("a folder"));
    let mut other = Talk::new(&talking("lfm2"), 600, 8);
    wait(other.chat.keep_in(&other.engine, store, StoreOptions { limit, exact: false })).expect("a folder");
    other.ask(QUESTIONS[0]);
    assert!(bytes(folder.path()) <= limit);
}

#[test]
fn a_store_in_memory_is_one_too() {
    let mut talk = Talk::new(&talking("nemotron_h"), 600, 8);
    talk.verbatim = true;
    let options = StoreOptions { limit: 1 << 30, exact: false };
    wait(talk.chat.keep_in(&talk.engine, Box::<MemoryStore>::default(), options)).expect("a store");
    talk.ask(QUESTIONS[0]);
    talk.ask(QUESTIONS[1]);
    // The device forgets everything.
    talk.chat.cache_mut().clear(&mut talk.engine);
    let before = talk.left[1];
    let reuse = talk.ask(QUESTIONS[2]);
    assert_eq!(reuse.cached_tokens, before);
}
