//! The language of chat templates: Jinja, as `jinja2` runs it in a sandbox where lists and dicts cannot change.
//!
//! Templates were written against Python: values print, compare, slice and divide as Python's do, and have its
//! methods. See `docs/chat-templates.md` for what is not provided.

mod ast;
mod checks;
mod evaluate;
mod execute;
mod expression;
mod filters;
mod functions;
mod json;
mod lexer;
mod limits;
mod methods;
mod operators;
mod parser;
mod printf;
mod strftime;
mod text_format;
mod texts;
mod value;
mod written;

use std::collections::HashMap;

pub(crate) use limits::SOURCE_BYTES;
pub(crate) use strftime::Moment;
pub(crate) use value::{Value, from_json};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    body: ast::Body,
    blocks: HashMap<ast::Name, ast::Body>,
}

/// A fault of a template, or a refusal by it.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub(crate) struct Fault {
    message: String,
    line: Option<usize>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), line: None }
    }

    fn syntax(message: impl Into<String>) -> Self {
        Self::new(format!("syntax error: {}", message.into()))
    }

    /// The template goes beyond a bound of `limits.rs`.
    fn limit(message: impl Into<String>) -> Self {
        Self::new(format!("the template {}", message.into()))
    }

    /// Adds the line, unless one is known already.
    fn at(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }
}

impl Template {
    /// Parses a source.
    pub fn parse(source: &str) -> Result<Self, Fault> {
        parser::parse(source)
    }

    /// Renders it with variables that came from so many bytes, at a moment.
    pub fn render(&self, variables: Vec<(String, Value)>, bytes: usize, now: Moment) -> Result<String, Fault> {
        execute::render(self, variables, bytes, now)
    }
}

#[cfg(test)]
mod tests;
