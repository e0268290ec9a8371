//! What a turn did not have to read, and why not more.

use std::fmt;

/// Tokens of a prompt, and how many of them were known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were not read again.
    pub cached_tokens: usize,
    /// The reason why less was reused than the conversation's last turn left; `None` where all of it was.
    pub missed: Option<Missed>,
}

impl Reuse {
    /// Tokens of the prompt that were read.
    pub fn read_tokens(&self) -> usize {
        self.prompt_tokens - self.cached_tokens
    }
}

/// Reason why tokens are read again that were read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The prompt differs from the text that was read, in what came before the last reply: a message was edited, or the
    /// template writes the past in another way (a date, other tools or options).
    Changed {
        /// The first token that differs.
        at: usize,
        /// Tokens that had been read.
        left: usize,
    },
    /// The prompt differs from the text that was read within the last reply: it was edited, or the template writes it
    /// in another way than the model.
    ReplyChanged {
        /// The first token that differs.
        at: usize,
        /// Tokens that had been read.
        left: usize,
    },
    /// The prompt leaves out the thinking of the last reply.
    ThinkingRemoved {
        /// The first token that differs.
        at: usize,
        /// Tokens that had been read.
        left: usize,
    },
    /// The prompt is the same, and its checkpoint had made room for others.
    Dropped {
        /// Tokens that had been read.
        left: usize,
    },
}

impl Missed {
    /// `changed`, `reply-changed`, `thinking-removed`, `dropped`
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::ReplyChanged { .. } => "reply-changed",
            Self::ThinkingRemoved { .. } => "thinking-removed",
            Self::Dropped { .. } => "dropped",
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Changed { at, left } => {
                write!(f, "the text before the last reply changed at token {at} of {left} that had been read")
            }
            Self::ReplyChanged { at, left } => {
                write!(f, "the last reply is written differently from token {at} of {left} that had been read")
            }
            Self::ThinkingRemoved { at, left } => {
                write!(f, "the thinking of the last reply is left out, from token {at} of {left} that had been read")
            }
            Self::Dropped { left } => {
                write!(f, "the memory of the {left} tokens that had been read made room for others")
            }
        }
    }
}

/// The end of a conversation's last turn.
#[derive(Clone, Debug, Default)]
pub(in crate::generate) struct Last {
    /// Every token that was read.
    pub tokens: Vec<u32>,
    /// Depths of the checkpoints that it left, ascending.
    pub kept: Vec<usize>,
    /// Tokens of its prompt.
    pub prompt: usize,
    /// The reply had thinking.
    pub thought: bool,
    /// The conversation's number, where it is known.
    pub conversation: Option<u64>,
}

impl Last {
    /// Whether a conversation may be the one of this turn.
    pub fn is_of(&self, conversation: Option<u64>) -> bool {
        self.conversation.is_none() || self.conversation == conversation
    }

    /// Why `cached` tokens of a prompt are reused and not all that this turn left; `None` where they are, and where the
    /// prompt begins a new conversation.
    pub fn missed(&self, prompt: &[u32], cached: usize, begins: bool) -> Option<Missed> {
        let (at, left) = (super::trie::common(&self.tokens, prompt), self.tokens.len());
        // Texts of two conversations may have their first words in common.
        if begins {
            return None;
        }
        // The last token of a prompt is read in any case.
        let within = at.min(prompt.len().saturating_sub(1));
        let wanted = self.kept.iter().copied().filter(|&depth| depth <= within).max();
        Some(match () {
            () if wanted.is_some_and(|wanted| cached < wanted) => Missed::Dropped { left },
            () if at == left || at == prompt.len() => return None,
            () if at < self.prompt => Missed::Changed { at, left },
            () if self.thought => Missed::ThinkingRemoved { at, left },
            () => Missed::ReplyChanged { at, left },
        })
    }
}
