//! From tokens to the tree: statements. Expressions are in `expression.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::*;
use super::lexer::{self, Placed, Token};
use super::limits::{SOURCE_BYTES, SOURCE_NESTING};
use super::{Fault, Template};

/// Parses a source.
pub(super) fn parse(source: &str) -> Result<Template, Fault> {
    if source.len() > SOURCE_BYTES {
        let (have, most) = (source.len(), SOURCE_BYTES >> 20);
        return Err(Fault::limit(format!("has {have} bytes of source; {most} MiB are the most")));
    }
    let tokens = lexer::tokens(source)?;
    let mut parser = Parser { tokens, at: 0, depth: 0, blocks: HashMap::new(), macros: vec![], soft: false };
    let body = parser.body(&[]).map_err(|fault| fault.at(parser.line()))?;
    Ok(Template { body, blocks: parser.blocks })
}

/// Names that a macro's body mentions: `varargs`, `kwargs`, `caller`.
type Mentions = [bool; 3];

pub(super) struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
    blocks: HashMap<Name, Body>,
    /// The macros around this place.
    macros: Vec<Mentions>,
    /// Directly within an `{% if %}` an unknown filter is a fault only when it is reached.
    pub(super) soft: bool,
}

impl Parser {
    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(line, _)| *line)
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    pub(super) fn peek_second(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|(_, token)| token)
    }

    pub(super) fn bump(&mut self) -> Option<Token> {
        let token = self.tokens.get_mut(self.at).map(|(_, token)| std::mem::replace(token, Token::BlockEnd));
        self.at += 1;
        token
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(have)) if *have == op)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(name)) if name == word)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn op(&mut self, op: &str) -> Result<(), Fault> {
        if self.skip_op(op) { Ok(()) } else { Err(self.unexpected(&format!("`{op}`"))) }
    }

    pub(super) fn name(&mut self) -> Result<Name, Fault> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.as_str().into();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            None => "the end of the template".to_owned(),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::Op(op)) => format!("`{op}`"),
            Some(Token::BlockEnd) => "`%}`".to_owned(),
            Some(Token::VariableEnd) => "`}}`".to_owned(),
            Some(Token::Str(_)) => "a text".to_owned(),
            Some(Token::Int(_) | Token::Float(_)) => "a number".to_owned(),
            Some(_) => "what follows the tag".to_owned(),
        };
        Fault::syntax(format!("{wanted} is expected where {found} stands"))
    }

    /// An `if` stands in this expression, outside of further brackets.
    pub(super) fn inline_if_follows(&self) -> bool {
        let mut open = 0_usize;
        for (_, token) in &self.tokens[self.at.min(self.tokens.len())..] {
            match token {
                Token::Op("(" | "[" | "{") => open += 1,
                Token::Op(")" | "]" | "}") if open == 0 => return false,
                Token::Op(")" | "]" | "}") => open -= 1,
                Token::Op("," | ":") if open == 0 => return false,
                Token::Name(name) if open == 0 && name == "if" => return true,
                Token::BlockEnd | Token::VariableEnd => return false,
                _ => {}
            }
        }
        false
    }

    /// One more level of nesting.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == SOURCE_NESTING {
            return Err(Fault::limit(format!("is nested more than {SOURCE_NESTING} levels deep")));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// A name was read as a variable.
    pub(super) fn mentions(&mut self, name: &str) {
        if let Some(index) = ["varargs", "kwargs", "caller"].iter().position(|special| *special == name) {
            for mentions in &mut self.macros {
                mentions[index] = true;
            }
        }
    }

    fn block_end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(Token::BlockEnd) => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.unexpected("`%}`")),
        }
    }

    /// Statements up to one of the ending tags, whose name is then the next token; without any, up to the end.
    fn body(&mut self, ends: &[&str]) -> Result<Body, Fault> {
        let mut body = vec![];
        loop {
            let line = self.line();
            let kind = match self.bump() {
                None if ends.is_empty() => return Ok(body),
                None => return Err(Fault::syntax(format!("`{{% {} %}}` is missing", ends[ends.len() - 1]))),
                Some(Token::Text(text)) => Kind::Text(text),
                Some(Token::VariableBegin) => {
                    let value = self.tuple(true, &[])?;
                    if self.bump() != Some(Token::VariableEnd) {
                        self.at -= 1;
                        return Err(self.unexpected("`}}`"));
                    }
                    Kind::Output(value)
                }
                Some(_) => {
                    if ends.iter().any(|end| self.is_word(end)) {
                        return Ok(body);
                    }
                    self.nested(Self::statement)?
                }
            };
            body.push(Statement { line, kind });
        }
    }

    /// A body up to one ending tag, which is read as well.
    fn closed(&mut self, end: &str) -> Result<Body, Fault> {
        let body = self.body(&[end])?;
        self.at += 1;
        self.block_end()?;
        Ok(body)
    }

    /// The same, for a body with a scope of its own.
    fn scoped(&mut self, end: &str) -> Result<Body, Fault> {
        let soft = std::mem::replace(&mut self.soft, false);
        let body = self.closed(end);
        self.soft = soft;
        body
    }

    fn statement(&mut self) -> Result<Kind, Fault> {
        let tag = self.name()?;
        match &*tag {
            "if" => self.conditional(),
            "for" => self.repeated(),
            "set" => self.set(),
            "macro" => {
                let name = self.name()?;
                self.op("(")?;
                let parameters = self.parameters()?;
                self.macro_body(name, parameters, "endmacro").map(Kind::Macro)
            }
            "call" => {
                let parameters = if self.skip_op("(") { self.parameters()? } else { vec![] };
                let call = self.expression()?;
                if !matches!(&call, Expr::Postfix(_, suffixes) if matches!(suffixes.last(), Some(Suffix::Call(_)))) {
                    return Err(Fault::syntax("`{% call %}` is not followed by a call"));
                }
                Ok(Kind::Call(call, self.macro_body("caller".into(), parameters, "endcall")?))
            }
            "filter" => {
                let filters = self.filters(true)?;
                self.block_end()?;
                Ok(Kind::Filter(filters, self.scoped("endfilter")?))
            }
            "with" => {
                let mut values = vec![];
                while self.peek() != Some(&Token::BlockEnd) {
                    if !values.is_empty() {
                        self.op(",")?;
                    }
                    let target = self.target(false)?;
                    self.op("=")?;
                    values.push((target, self.expression()?));
                }
                self.block_end()?;
                Ok(Kind::With(values, self.scoped("endwith")?))
            }
            "block" => {
                let name = self.name()?;
                let scoped = self.skip_word("scoped");
                self.skip_word("required");
                self.block_end()?;
                let body = self.body(&["endblock"])?;
                self.at += 1;
                if self.is_word(&name) {
                    self.at += 1;
                }
                self.block_end()?;
                if self.blocks.insert(name.clone(), body).is_some() {
                    return Err(Fault::syntax(format!("the block `{name}` is defined twice")));
                }
                Ok(Kind::Block { name, scoped })
            }
            "generation" => {
                self.block_end()?;
                Ok(Kind::Generation(self.scoped("endgeneration")?))
            }
            "print" => {
                let value = self.tuple(true, &[])?;
                self.block_end()?;
                Ok(Kind::Output(value))
            }
            "break" | "continue" => {
                self.block_end()?;
                Ok(if &*tag == "break" { Kind::Break } else { Kind::Continue })
            }
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.peek(), None | Some(Token::BlockEnd)) {
                    self.at += 1;
                }
                self.block_end()?;
                Ok(Kind::Elsewhere(match &*tag {
                    "include" => "include",
                    "extends" => "extends",
                    _ => "import",
                }))
            }
            "autoescape" => Err(Fault::syntax("`{% autoescape %}` is not provided: prompts are no HTML")),
            _ => Err(Fault::syntax(format!("the tag `{tag}` is unknown"))),
        }
    }

    fn conditional(&mut self) -> Result<Kind, Fault> {
        let soft = std::mem::replace(&mut self.soft, true);
        let parsed = self.branches();
        self.soft = soft;
        parsed
    }

    fn branches(&mut self) -> Result<Kind, Fault> {
        let mut branches = vec![];
        loop {
            let test = self.tuple(false, &[])?;
            self.block_end()?;
            branches.push((test, self.body(&["elif", "else", "endif"])?));
            if self.skip_word("elif") {
                continue;
            }
            let otherwise = if self.skip_word("else") {
                self.block_end()?;
                self.body(&["endif"])?
            } else {
                vec![]
            };
            self.at += 1;
            self.block_end()?;
            return Ok(Kind::If(branches, otherwise));
        }
    }

    fn repeated(&mut self) -> Result<Kind, Fault> {
        let target = self.target(true)?;
        if !self.skip_word("in") {
            return Err(self.unexpected("`in`"));
        }
        let items = self.tuple(false, &["recursive"])?;
        let filter = if self.skip_word("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_word("recursive");
        self.block_end()?;
        let soft = std::mem::replace(&mut self.soft, false);
        let body = self.body(&["endfor", "else"])?;
        let otherwise = if self.skip_word("else") {
            self.block_end()?;
            self.body(&["endfor"])?
        } else {
            vec![]
        };
        self.soft = soft;
        self.at += 1;
        self.block_end()?;
        Ok(Kind::For(Arc::new(For { target, items, filter, body, otherwise, recursive })))
    }

    fn set(&mut self) -> Result<Kind, Fault> {
        let target = self.target(true)?;
        if self.skip_op("=") {
            let value = self.tuple(true, &[])?;
            self.block_end()?;
            return Ok(Kind::Set(target, value));
        }
        let filters = self.filters(false)?;
        self.block_end()?;
        Ok(Kind::SetBlock(target, filters, self.scoped("endset")?))
    }

    /// A place to assign to; `tuple`: names with commas between them are several.
    fn target(&mut self, tuple: bool) -> Result<Target, Fault> {
        let mut targets = vec![];
        let mut several = false;
        loop {
            if self.skip_op("(") {
                targets.push(self.nested(|parser| parser.target(true))?);
                self.op(")")?;
            } else {
                let name = self.name()?;
                if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
                    return Err(Fault::syntax(format!("nothing can be assigned to `{name}`")));
                }
                targets.push(match self.skip_op(".") {
                    true => Target::Attribute(name, self.name()?),
                    false => Target::Name(name),
                });
            }
            if !tuple || !self.skip_op(",") {
                break;
            }
            several = true;
            if self.is_word("in") || self.is_op("=") || self.is_op(")") {
                break;
            }
        }
        match targets.pop() {
            Some(only) if targets.is_empty() && !several => Ok(only),
            last => {
                targets.extend(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    /// The parameters of a macro, behind the bracket.
    fn parameters(&mut self) -> Result<Vec<(Name, Option<Expr>)>, Fault> {
        let mut parameters: Vec<(Name, Option<Expr>)> = vec![];
        while !self.skip_op(")") {
            if !parameters.is_empty() {
                self.op(",")?;
            }
            let name = self.name()?;
            let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return Err(Fault::syntax(format!("the parameter `{name}` needs a default: the one before has one")));
            }
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    fn macro_body(
        &mut self,
        name: Name,
        parameters: Vec<(Name, Option<Expr>)>,
        end: &str,
    ) -> Result<Arc<Macro>, Fault> {
        self.block_end()?;
        self.macros.push([false; 3]);
        let body = self.scoped(end);
        let mentions = self.macros.pop().unwrap_or_default();
        let takes = |index: usize, name: &str| mentions[index] && parameters.iter().all(|(have, _)| &**have != name);
        let (takes_varargs, takes_kwargs, takes_caller) = (takes(0, "varargs"), takes(1, "kwargs"), takes(2, "caller"));
        Ok(Arc::new(Macro { name, parameters, body: body?, takes_varargs, takes_kwargs, takes_caller }))
    }
}
