//! From tokens to the tree: expressions, with Jinja's ranks of operators.

use super::ast::*;
use super::lexer::Token;
use super::limits::SOURCE_NESTING;
use super::parser::Parser;
use super::{Fault, checks, filters};

impl Parser {
    /// An expression, or several with commas between them: a tuple. `inline_if`: `a if b else c` may stand here.
    pub(super) fn tuple(&mut self, inline_if: bool, ends: &[&str]) -> Result<Expr, Fault> {
        let mut items = vec![];
        let mut several = false;
        while !self.tuple_ends(ends) {
            items.push(if inline_if { self.expression()? } else { self.nested(Self::or)? });
            if !self.skip_op(",") {
                break;
            }
            several = true;
        }
        match items.pop() {
            Some(only) if items.is_empty() && !several => Ok(only),
            None => Err(self.unexpected("an expression")),
            last => {
                items.extend(last);
                Ok(Expr::Tuple(items))
            }
        }
    }

    fn tuple_ends(&self, ends: &[&str]) -> bool {
        matches!(self.peek(), None | Some(Token::BlockEnd | Token::VariableEnd | Token::Op(")")))
            || ends.iter().any(|end| self.is_word(end))
    }

    /// An expression.
    pub(super) fn expression(&mut self) -> Result<Expr, Fault> {
        self.nested(|parser| {
            let soft = parser.soft;
            // Within an inline `if` an unknown filter is a fault only when it is reached.
            parser.soft = soft || parser.inline_if_follows();
            let parsed = parser.conditional_expression();
            parser.soft = soft;
            parsed
        })
    }

    fn conditional_expression(&mut self) -> Result<Expr, Fault> {
        let mut value = self.or()?;
        let mut levels = 0;
        while self.skip_word("if") {
            let test = self.or()?;
            let otherwise = if self.skip_word("else") { Some(Box::new(self.expression()?)) } else { None };
            value = Expr::If(Box::new([test, value]), otherwise);
            // One `if` behind the other nests to the left.
            levels += 1;
            if levels > SOURCE_NESTING / 4 {
                return Err(Fault::limit("has too many inline `if`s in a row".to_owned()));
            }
        }
        Ok(value)
    }

    fn or(&mut self) -> Result<Expr, Fault> {
        let mut items = vec![self.and()?];
        while self.skip_word("or") {
            items.push(self.and()?);
        }
        Ok(only_or(items, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, Fault> {
        let mut items = vec![self.not()?];
        while self.skip_word("and") {
            items.push(self.not()?);
        }
        Ok(only_or(items, Expr::And))
    }

    fn not(&mut self) -> Result<Expr, Fault> {
        if self.skip_word("not") {
            return Ok(Expr::Not(Box::new(self.nested(Self::not)?)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr, Fault> {
        let first = self.sum()?;
        let mut rest = vec![];
        loop {
            let comparison = match self.peek() {
                Some(Token::Op("==")) => Comparison::Equal,
                Some(Token::Op("!=")) => Comparison::NotEqual,
                Some(Token::Op("<")) => Comparison::Less,
                Some(Token::Op("<=")) => Comparison::LessEqual,
                Some(Token::Op(">")) => Comparison::Greater,
                Some(Token::Op(">=")) => Comparison::GreaterEqual,
                Some(Token::Name(name)) if name == "in" => Comparison::In,
                Some(Token::Name(name))
                    if name == "not" && matches!(self.peek_second(), Some(Token::Name(name)) if name == "in") =>
                {
                    self.bump();
                    Comparison::NotIn
                }
                _ => break,
            };
            self.bump();
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    /// Operators of one rank.
    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Result<Expr, Fault>,
    ) -> Result<Expr, Fault> {
        let first = operand(self)?;
        let mut rest = vec![];
        while let Some((_, operator)) = operators.iter().find(|(op, _)| self.is_op(op)) {
            self.bump();
            rest.push((*operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Arithmetic(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expr, Fault> {
        self.chain(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::concat)
    }

    fn concat(&mut self) -> Result<Expr, Fault> {
        let mut items = vec![self.product()?];
        while self.skip_op("~") {
            items.push(self.product()?);
        }
        Ok(only_or(items, Expr::Concat))
    }

    fn product(&mut self) -> Result<Expr, Fault> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Modulo),
        ];
        self.chain(&operators, Self::power)
    }

    fn power(&mut self) -> Result<Expr, Fault> {
        self.chain(&[("**", Operator::Power)], |parser| parser.unary(true))
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr, Fault> {
        let value = if self.skip_op("-") {
            Expr::Negative(Box::new(self.nested(|parser| parser.unary(false))?))
        } else if self.skip_op("+") {
            Expr::Positive(Box::new(self.nested(|parser| parser.unary(false))?))
        } else {
            self.primary()?
        };
        let mut suffixes = vec![];
        self.postfix(&mut suffixes)?;
        if with_filters {
            self.filters_and_tests(&mut suffixes)?;
        }
        Ok(if suffixes.is_empty() { value } else { Expr::Postfix(Box::new(value), suffixes) })
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let literal = |literal| Ok(Expr::Literal(literal));
        match self.peek() {
            Some(Token::Name(_)) => {
                let name = self.name()?;
                match &*name {
                    "true" | "True" => literal(Literal::Bool(true)),
                    "false" | "False" => literal(Literal::Bool(false)),
                    "none" | "None" => literal(Literal::None),
                    _ => {
                        self.mentions(&name);
                        Ok(Expr::Name(name))
                    }
                }
            }
            Some(Token::Str(_)) => {
                let mut text = String::new();
                while let Some(Token::Str(part)) = self.peek() {
                    text.push_str(part);
                    self.bump();
                }
                literal(Literal::Text(text.into()))
            }
            Some(&Token::Int(value)) => {
                self.bump();
                literal(Literal::Int(value))
            }
            Some(&Token::Float(value)) => {
                self.bump();
                literal(Literal::Float(value))
            }
            Some(Token::Op("(")) => {
                self.bump();
                if self.skip_op(")") {
                    return Ok(Expr::Tuple(vec![]));
                }
                let value = self.tuple(true, &[])?;
                self.op(")")?;
                Ok(value)
            }
            Some(Token::Op("[")) => {
                self.bump();
                let mut items = vec![];
                while !self.skip_op("]") {
                    if !items.is_empty() {
                        self.op(",")?;
                        if self.skip_op("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?);
                }
                Ok(Expr::List(items))
            }
            Some(Token::Op("{")) => {
                self.bump();
                let mut entries = vec![];
                while !self.skip_op("}") {
                    if !entries.is_empty() {
                        self.op(",")?;
                        if self.skip_op("}") {
                            break;
                        }
                    }
                    let key = self.expression()?;
                    self.op(":")?;
                    entries.push((key, self.expression()?));
                }
                Ok(Expr::Dict(entries))
            }
            _ => Err(self.unexpected("an expression")),
        }
    }

    /// Attributes, items and calls.
    fn postfix(&mut self, suffixes: &mut Vec<Suffix>) -> Result<(), Fault> {
        loop {
            if self.skip_op(".") {
                suffixes.push(match self.peek() {
                    Some(&Token::Int(index)) => {
                        self.bump();
                        Suffix::Item(Expr::Literal(Literal::Int(index)))
                    }
                    _ => Suffix::Attribute(self.name()?),
                });
            } else if self.skip_op("[") {
                let first = self.subscript()?;
                if self.is_op(",") {
                    let mut items = vec![first];
                    while self.skip_op(",") && !self.is_op("]") {
                        items.push(self.subscript()?);
                    }
                    let items = items.into_iter().map(|item| match item {
                        Suffix::Item(item) => Ok(item),
                        _ => Err(Fault::syntax("a slice beside other indices means nothing")),
                    });
                    suffixes.push(Suffix::Item(Expr::Tuple(items.collect::<Result<_, _>>()?)));
                } else {
                    suffixes.push(first);
                }
                self.op("]")?;
            } else if self.is_op("(") {
                suffixes.push(Suffix::Call(self.args()?));
            } else {
                return Ok(());
            }
        }
    }

    fn subscript(&mut self) -> Result<Suffix, Fault> {
        let mut parts = [None, None, None];
        let mut colons = 0;
        loop {
            if self.is_op(":") && colons < 2 {
                self.bump();
                colons += 1;
            } else if self.is_op("]") || self.is_op(",") {
                break;
            } else if parts[colons].is_none() {
                parts[colons] = Some(self.expression()?);
            } else {
                return Err(self.unexpected("`]`"));
            }
        }
        match parts {
            [Some(index), None, None] if colons == 0 => Ok(Suffix::Item(index)),
            _ if colons == 0 => Err(self.unexpected("an expression")),
            parts => Ok(Suffix::Slice(Box::new(parts))),
        }
    }

    fn args(&mut self) -> Result<Args, Fault> {
        self.op("(")?;
        let mut args = Args::default();
        let mut first = true;
        while !self.skip_op(")") {
            if !first {
                self.op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            first = false;
            let order = || Fault::syntax("the arguments of a call are out of order");
            if self.skip_op("*") {
                let value = self.expression()?;
                if args.list.is_some() || args.dict.is_some() {
                    return Err(order());
                }
                args.list = Some(Box::new(value));
            } else if self.skip_op("**") {
                let value = self.expression()?;
                if args.dict.is_some() {
                    return Err(order());
                }
                args.dict = Some(Box::new(value));
            } else if matches!(self.peek(), Some(Token::Name(_))) && self.peek_second() == Some(&Token::Op("=")) {
                let name = self.name()?;
                self.bump();
                let value = self.expression()?;
                if args.dict.is_some() {
                    return Err(order());
                }
                if args.named.iter().any(|(have, _)| *have == name) {
                    return Err(Fault::syntax(format!("the argument `{name}` is given twice")));
                }
                args.named.push((name, value));
            } else {
                let value = self.expression()?;
                if args.list.is_some() || args.dict.is_some() || !args.named.is_empty() {
                    return Err(order());
                }
                args.positional.push(value);
            }
        }
        Ok(args)
    }

    fn filters_and_tests(&mut self, suffixes: &mut Vec<Suffix>) -> Result<(), Fault> {
        loop {
            if self.skip_op("|") {
                suffixes.push(self.filter()?);
            } else if self.skip_word("is") {
                suffixes.push(self.test()?);
            } else if self.is_op("(") {
                suffixes.push(Suffix::Call(self.args()?));
            } else {
                return Ok(());
            }
        }
    }

    /// Filters one after the other; `begun`: the first has no `|` in front.
    pub(super) fn filters(&mut self, begun: bool) -> Result<Vec<Suffix>, Fault> {
        let mut filters = vec![];
        if begun {
            filters.push(self.filter()?);
        }
        while self.skip_op("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn dotted(&mut self) -> Result<Name, Fault> {
        let mut name = self.name()?.to_string();
        while self.skip_op(".") {
            name = format!("{name}.{}", self.name()?);
        }
        Ok(name.into())
    }

    fn filter(&mut self) -> Result<Suffix, Fault> {
        let name = self.dotted()?;
        if !self.soft && !filters::exists(&name) {
            return Err(Fault::syntax(format!("the filter `{name}` is unknown")));
        }
        let args = if self.is_op("(") { self.args()? } else { Args::default() };
        Ok(Suffix::Filter(name, args))
    }

    fn test(&mut self) -> Result<Suffix, Fault> {
        let negated = self.skip_word("not");
        let name = self.dotted()?;
        if !self.soft && !checks::exists(&name) {
            return Err(Fault::syntax(format!("the test `{name}` is unknown")));
        }
        let args = match self.peek() {
            Some(Token::Op("(")) => self.args()?,
            Some(Token::Name(word)) if matches!(word.as_str(), "else" | "or" | "and") => Args::default(),
            Some(Token::Name(word)) if word == "is" => return Err(Fault::syntax("tests cannot follow one another")),
            Some(Token::Name(_) | Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{")) => {
                let value = self.nested(Self::primary)?;
                let mut suffixes = vec![];
                self.postfix(&mut suffixes)?;
                let value = if suffixes.is_empty() { value } else { Expr::Postfix(Box::new(value), suffixes) };
                Args { positional: vec![value], ..Args::default() }
            }
            _ => Args::default(),
        };
        Ok(Suffix::Test { name, args, negated })
    }
}

/// The only one, or several under an operator.
fn only_or(mut items: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    match items.pop() {
        Some(only) if items.is_empty() => only,
        last => {
            items.extend(last);
            several(items)
        }
    }
}
