//! The tree of a parsed template.
//!
//! Operators of one rank and what follows an operand (`.a[0](x)|f is t`) lie side by side in a list, not one within
//! the other: a long chain costs no stack.

use std::sync::Arc;

/// A name of a variable, an attribute, a filter or a test.
pub(super) type Name = Arc<str>;

/// A literal.
#[derive(Debug)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
}

/// An operator between numbers, texts or lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

#[derive(Debug)]
pub(super) enum Expr {
    Literal(Literal),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Operators of one rank, from the left to the right.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    /// `~`
    Concat(Vec<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    /// `a < b < c`: each pair, until one is false.
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    /// `then if test else otherwise`
    If(Box<[Expr; 2]>, Option<Box<Expr>>),
    Postfix(Box<Expr>, Vec<Suffix>),
}

/// A thing behind an operand.
#[derive(Debug)]
pub(super) enum Suffix {
    Attribute(Name),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Args),
    Filter(Name, Args),
    Test { name: Name, args: Args, negated: bool },
}

/// The arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub positional: Vec<Expr>,
    pub named: Vec<(Name, Expr)>,
    /// `*list`
    pub list: Option<Box<Expr>>,
    /// `**dict`
    pub dict: Option<Box<Expr>>,
}

/// A place to assign to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    /// `ns.attribute`
    Attribute(Name, Name),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Statement {
    pub line: usize,
    pub kind: Kind,
}

pub(super) type Body = Vec<Statement>;

#[derive(Debug)]
pub(super) enum Kind {
    Text(String),
    Output(Expr),
    If(Vec<(Expr, Body)>, Body),
    For(Arc<For>),
    Set(Target, Expr),
    /// `{% set x | filter %}...{% endset %}`
    SetBlock(Target, Vec<Suffix>, Body),
    Macro(Arc<Macro>),
    /// `{% call(arguments) f() %}...{% endcall %}`; the body is a macro named `caller`.
    Call(Expr, Arc<Macro>),
    Filter(Vec<Suffix>, Body),
    With(Vec<(Target, Expr)>, Body),
    /// A named block: it sees the template's own variables, not those around it unless it is `scoped`.
    Block {
        name: Name,
        scoped: bool,
    },
    /// `{% generation %}`: a scope of its own, and nothing else.
    Generation(Body),
    Break,
    Continue,
    /// A tag that needs another template.
    Elsewhere(&'static str),
}

#[derive(Debug)]
pub(super) struct For {
    pub target: Target,
    pub items: Expr,
    pub filter: Option<Expr>,
    pub body: Body,
    pub otherwise: Body,
    pub recursive: bool,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub name: Name,
    /// Names with their defaults.
    pub parameters: Vec<(Name, Option<Expr>)>,
    pub body: Body,
    /// The body mentions `varargs`, `kwargs`, `caller`.
    pub takes_varargs: bool,
    pub takes_kwargs: bool,
    pub takes_caller: bool,
}
