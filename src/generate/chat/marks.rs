//! The places of a prompt at which checkpoints are worth most: the ends of its messages.
//!
//! The end of a message is found by asking the template: as many tokens as a prompt has in common with one that ends
//! there. So it does not matter how a template writes messages, or what its generation prompt is.

use super::super::prompt_cache::{KnownText, KnownTexts, Mark, common};
use super::ChatRequest;
use crate::state::CheckpointKind;
use crate::text::{ChatMessage, ChatTemplate, Tokenizer};

/// Most messages of a prompt, the last ones, whose ends are looked for: each costs a rendering.
const MOST_MARKS: usize = 8;

/// Fewest tokens of a system prompt for which a checkpoint of its own is made.
const SHORTEST_OPENING: usize = 16;

/// What a template and a tokenizer make of the messages of a request.
pub(super) struct Prompts<'a> {
    pub template: &'a ChatTemplate,
    pub tokenizer: &'a Tokenizer,
    pub texts: &'a KnownTexts,
    pub request: &'a ChatRequest,
    /// As they are to be read.
    pub messages: &'a [ChatMessage],
}

impl Prompts<'_> {
    /// Tokens of the prompt that other conversations with the same system prompt, tools and options have too.
    pub fn opening(&self, prompt: &KnownText) -> usize {
        let system = self.messages.iter().take_while(|message| matches!(message.role(), "system" | "developer"));
        let mut other: Vec<ChatMessage> = system.cloned().collect();
        // Another first message, from its first character on.
        let first = self.messages.get(other.len()).map(|message| message.content()).unwrap_or_default();
        let letter = if first.trim_start().starts_with('x') { "y" } else { "x" };
        other.push(ChatMessage::new("user", letter));
        self.in_common(prompt, &other).map_or(0, |(_, tokens)| tokens)
    }

    /// Marks behind the first `cached` tokens of a prompt: the end of its opening, and the ends of the last messages of
    /// users and tools. Their places become cuts of the text.
    pub fn marks(&self, prompt: &mut KnownText, opening: usize, cached: usize) -> Vec<Mark> {
        let mut marks = vec![];
        if opening > cached && opening >= SHORTEST_OPENING {
            marks.push(Mark { length: opening, kind: CheckpointKind::System });
        }
        for end in (1..=self.messages.len()).rev() {
            let asks = |index: usize| self.messages.get(index).is_some_and(|m| matches!(m.role(), "user" | "tool"));
            if !asks(end - 1) || asks(end) {
                continue;
            }
            // Templates that refuse a part of a conversation, or write it in another way, get no mark.
            let Some((bytes, length)) = self.in_common(prompt, &self.messages[..end]) else { continue };
            if length <= cached.max(opening) || marks.len() > MOST_MARKS {
                break;
            }
            if let Some(bytes) = bytes {
                prompt.end_at(bytes, length);
            }
            marks.push(Mark { length, kind: CheckpointKind::Message });
        }
        marks
    }

    /// Tokens that a prompt has in common with that of other messages, and the bytes of these where the prompt begins
    /// with all of them.
    fn in_common(&self, prompt: &KnownText, messages: &[ChatMessage]) -> Option<(Option<usize>, usize)> {
        let other = self.request.prompt(self.template, messages, false).ok()?;
        let other = self.texts.encode(self.tokenizer, &other).ok()?;
        let length = common(&prompt.tokens, &other.tokens);
        let whole = length == other.tokens.len() && prompt.text.starts_with(&other.text);
        Some((whole.then_some(other.text.len()), length))
    }
}
