//! Dialects of tool calls, and how a chat template shows its own.

/// Form in which a model family writes its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolCallDialect {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, several in a row or as a list: Hermes, Qwen2.5, Qwen3,
    /// Granite 4, Falcon-H1.
    Hermes,
    /// `<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`: Qwen3-Coder, Qwen3.5,
    /// Nemotron 3. The outer tag may be missing.
    Qwen3Coder,
    /// `<TOOLCALL>[{"name": ..., "arguments": {...}}]</TOOLCALL>`: Nemotron Nano 2.
    Nemotron,
    /// `<|tool_call|>[{"name": ..., "arguments": {...}}]` up to the end of the answer: Granite 3.
    Granite3,
    /// `<|tool_call_start|>[NAME(KEY=VALUE)]<|tool_call_end|>`, a list of calls as Python writes them: LFM2. JSON in the same
    /// markers is read too.
    Lfm2,
    /// `{"name": ..., "parameters": {...}}` as the whole answer, several separated by `;`: Llama 3. Behind
    /// `<|python_tag|>` it may stand anywhere.
    Llama3,
}

impl ToolCallDialect {
    /// The dialect of a chat template, by the markers in its source; `None` where it shows none of these.
    pub fn of_template(source: &str) -> Option<Self> {
        let has = |text: &str| source.contains(text);
        // Templates hold JSON in texts with either kind of quotes.
        let shows = |key: &str| has(&format!("\"{key}\"")) || has(&format!("\\\"{key}\\\""));
        if has("<TOOLCALL>") {
            Some(Self::Nemotron)
        } else if has("<|tool_call_start|>") || has("<|tool_list_start|>") || has("List of tools: [") {
            // Only the last templates of LFM2 write calls themselves; all of them list the tools so.
            Some(Self::Lfm2)
        } else if has("<|tool_call|>") {
            Some(Self::Granite3)
        } else if has("<tool_call>") && has("<function=") {
            Some(Self::Qwen3Coder)
        } else if has("<tool_call>") && shows("arguments") && !has("<arg_key>") {
            Some(Self::Hermes)
        } else if shows("parameters") && (has("<|python_tag|>") || has("ipython")) {
            Some(Self::Llama3)
        } else {
            None
        }
    }

    /// All markers. A tokenizer may have special tokens for them.
    pub fn markers(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::Qwen3Coder => &["<tool_call>", "</tool_call>"],
            Self::Nemotron => &["<TOOLCALL>", "</TOOLCALL>"],
            Self::Granite3 => &["<|tool_call|>", "<tool_call>", "</tool_call>"],
            Self::Lfm2 => &["<|tool_call_start|>", "<|tool_call_end|>"],
            Self::Llama3 => &["<|python_tag|>"],
        }
    }

    /// Markers behind which calls stand. None is the beginning of another.
    pub(super) fn opens(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &["<tool_call>"],
            Self::Qwen3Coder => &["<tool_call>", super::xml::FUNCTION],
            Self::Nemotron => &["<TOOLCALL>"],
            Self::Granite3 => &["<|tool_call|>", "<tool_call>"],
            Self::Lfm2 => &["<|tool_call_start|>"],
            Self::Llama3 => &["<|python_tag|>"],
        }
    }

    /// The marker that closes what `open` opens.
    pub(super) fn close(self, open: &str) -> Option<&'static str> {
        match open {
            "<tool_call>" => Some("</tool_call>"),
            "<TOOLCALL>" => Some("</TOOLCALL>"),
            "<|tool_call_start|>" => Some("<|tool_call_end|>"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_shows_its_dialect() {
        use ToolCallDialect::*;
        for (source, dialect) in [
            ("{{ '<tool_call>\\n{\"name\": \"' }}{{ c.name }}{{ '\", \"arguments\": ' }}", Some(Hermes)),
            (r#"{{ "<tool_call>\n{\"name\": <name>, \"arguments\": <object>}\n</tool_call>" }}"#, Some(Hermes)),
            (r#"{{ "<tool_call>\n<function=" ~ call.name ~ ">" }}{# "arguments" #}"#, Some(Qwen3Coder)),
            (r#"{{ '<TOOLCALL>[{"name": "' }}"#, Some(Nemotron)),
            ("answer only with <|tool_call|> and a JSON list", Some(Granite3)),
            (r#"{{ "<|tool_call_start|>[" + calls + "]<|tool_call_end|>" }}"#, Some(Lfm2)),
            (r#"{{ "List of tools: <|tool_list_start|>[" }}"#, Some(Lfm2)),
            (r#"{{ "List of tools: [" }}"#, Some(Lfm2)),
            (r#"{{ '<|python_tag|>' }}{{ '"parameters": ' }}"#, Some(Llama3)),
            (r#"{%- if role == "ipython" %}{{ '"parameters": ' }}"#, Some(Llama3)),
            // Others are left alone.
            ("{{ '<tool_call>' + name }}<arg_key>k</arg_key>{# \"arguments\" #}", None),
            ("{{ '<tool_call>' + name }}", None),
            (r#"<function={{ name }}>{{ "parameters" }}"#, None),
            ("{{ messages[0].content }}", None),
            ("", None),
        ] {
            assert_eq!(ToolCallDialect::of_template(source), dialect, "{source}");
        }
    }

    #[test]
    fn no_marker_is_the_beginning_of_another() {
        use ToolCallDialect::*;
        for dialect in [Hermes, Qwen3Coder, Nemotron, Granite3, Lfm2, Llama3] {
            for (at, open) in dialect.opens().iter().enumerate() {
                let others = dialect.opens().iter().enumerate().filter(|(other, _)| *other != at);
                assert!(others.into_iter().all(|(_, other)| !other.starts_with(open)), "{open}");
                let close = dialect.close(open);
                assert!(close.is_none_or(|close| dialect.markers().contains(&close)), "{open}");
            }
        }
    }
}
