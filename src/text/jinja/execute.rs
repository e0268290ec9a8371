//! Statements of a template, and the scopes of its variables.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::*;
use super::functions::{self, Arguments};
use super::limits::{CALL_NESTING, Meter, SCOPE_NESTING};
use super::value::{Dict, Value};
use super::{Fault, Moment, Template};

/// Interpreter of one rendering.
pub(super) struct Interpreter<'t> {
    pub template: &'t Template,
    pub meter: Meter,
    pub now: Moment,
    pub namespaces: Vec<Dict>,
    pub macros: Vec<(Arc<Macro>, Rc<Scope>)>,
    pub loops: Vec<Loop>,
    root: Rc<Scope>,
    line: usize,
    depth: usize,
}

/// Variables of a place, and the scope around it.
pub(super) struct Scope {
    variables: RefCell<HashMap<Name, Value>>,
    parent: Option<Rc<Self>>,
    depth: u16,
}

/// A loop under way.
pub(super) struct Loop {
    pub items: Vec<Value>,
    pub at: usize,
    pub depth: usize,
    /// Last arguments of `loop.changed`.
    pub changed: Option<Vec<Value>>,
    /// Its statement and scope, for `loop(...)`.
    recursion: Option<(Arc<For>, Rc<Scope>)>,
}

/// Control flow after a statement.
#[derive(PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

impl Scope {
    fn inside(parent: &Rc<Self>) -> Result<Rc<Self>, Fault> {
        let depth = parent.depth + 1;
        if depth > SCOPE_NESTING {
            return Err(Fault::limit(format!("nests more than {SCOPE_NESTING} scopes")));
        }
        Ok(Rc::new(Self { variables: RefCell::default(), parent: Some(parent.clone()), depth }))
    }

    fn set(&self, name: Name, value: Value) {
        self.variables.borrow_mut().insert(name, value);
    }

    fn get(&self, name: &str) -> Option<Value> {
        let mut scope = self;
        loop {
            if let Some(value) = scope.variables.borrow().get(name) {
                return Some(value.clone());
            }
            scope = scope.parent.as_deref()?;
        }
    }
}

pub(super) fn render(
    template: &Template,
    variables: Vec<(String, Value)>,
    bytes: usize,
    now: Moment,
) -> Result<String, Fault> {
    let root = Rc::new(Scope { variables: RefCell::default(), parent: None, depth: 0 });
    for (name, value) in variables {
        root.set(name.into(), value);
    }
    let mut interpreter = Interpreter {
        template,
        meter: Meter::new(bytes),
        now,
        namespaces: vec![],
        macros: vec![],
        loops: vec![],
        root: root.clone(),
        line: 1,
        depth: 0,
    };
    let mut out = String::new();
    match interpreter.body(&template.body, &root, &mut out) {
        Ok(_) => Ok(out),
        Err(fault) => Err(fault.at(interpreter.line)),
    }
}

impl Interpreter<'_> {
    /// One more level of nesting.
    pub fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == CALL_NESTING {
            return Err(Fault::limit(format!("nests more than {CALL_NESTING} levels: a macro calls itself too often")));
        }
        self.depth += 1;
        let done = run(self);
        self.depth -= 1;
        done
    }

    /// The value of a name: a variable, else a function that is always there.
    pub fn variable(&self, name: &Name, scope: &Scope) -> Value {
        let found = scope.get(name).or_else(|| functions::global(name));
        found.unwrap_or_else(|| Value::Undefined(Some(name.clone())))
    }

    fn body(&mut self, body: &[Statement], scope: &Rc<Scope>, out: &mut String) -> Result<Flow, Fault> {
        for statement in body {
            self.line = statement.line;
            self.meter.step(1)?;
            let flow = match &statement.kind {
                Kind::Text(text) => {
                    self.write(text, out)?;
                    Flow::Next
                }
                Kind::Output(value) => {
                    let value = self.evaluate(value, scope)?;
                    self.print(&value, out)?;
                    Flow::Next
                }
                Kind::Break => Flow::Break,
                Kind::Continue => Flow::Continue,
                kind => self.nested(|interpreter| interpreter.statement(kind, scope, out))?,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn write(&self, text: &str, out: &mut String) -> Result<(), Fault> {
        self.meter.make(text.len())?;
        out.push_str(text);
        Ok(())
    }

    fn print(&self, value: &Value, out: &mut String) -> Result<(), Fault> {
        match value.as_text() {
            Some(text) => self.write(text, out),
            None => self.written_into(value, out),
        }
    }

    fn captured(&mut self, body: &[Statement], scope: &Rc<Scope>) -> Result<String, Fault> {
        let inner = Scope::inside(scope)?;
        let mut text = String::new();
        self.body(body, &inner, &mut text)?;
        Ok(text)
    }

    fn statement(&mut self, kind: &Kind, scope: &Rc<Scope>, out: &mut String) -> Result<Flow, Fault> {
        match kind {
            Kind::If(branches, otherwise) => {
                for (test, body) in branches {
                    if self.evaluate(test, scope)?.truthy() {
                        return self.body(body, scope, out);
                    }
                }
                return self.body(otherwise, scope, out);
            }
            Kind::For(statement) => {
                let items = self.evaluate(&statement.items, scope)?;
                return self.repeat(statement, items, scope, 0, out);
            }
            Kind::Set(target, value) => {
                let value = self.evaluate(value, scope)?;
                self.assign(target, value, scope)?;
            }
            Kind::SetBlock(target, filters, body) => {
                let text = self.captured(body, scope)?;
                let value = self.suffixes(Value::text(text), filters, scope)?;
                self.assign(target, value, scope)?;
            }
            Kind::Filter(filters, body) => {
                let text = self.captured(body, scope)?;
                let value = self.suffixes(Value::text(text), filters, scope)?;
                self.print(&value, out)?;
            }
            Kind::Generation(body) => {
                let text = self.captured(body, scope)?;
                self.write(&text, out)?;
            }
            Kind::Macro(definition) => {
                let value = self.make_macro(definition, scope)?;
                scope.set(definition.name.clone(), value);
            }
            Kind::Call(call, body) => {
                let caller = self.make_macro(body, scope)?;
                let value = self.call_with(call, caller, scope)?;
                self.print(&value, out)?;
            }
            Kind::With(values, body) => {
                let inner = Scope::inside(scope)?;
                let values: Vec<_> = values
                    .iter()
                    .map(|(target, value)| Ok((target, self.evaluate(value, scope)?)))
                    .collect::<Result<_, Fault>>()?;
                for (target, value) in values {
                    self.assign(target, value, &inner)?;
                }
                return self.body(body, &inner, out);
            }
            Kind::Block { name, scoped } => {
                let parent = if *scoped { scope.clone() } else { self.root.clone() };
                let text = self.block(name, &parent)?;
                self.write(&text, out)?;
            }
            Kind::Elsewhere(tag) => {
                return Err(Fault::new(format!(
                    "`{{% {tag} %}}` needs another template, and a chat template is alone"
                )));
            }
            Kind::Text(_) | Kind::Output(_) | Kind::Break | Kind::Continue => {}
        }
        Ok(Flow::Next)
    }

    /// The text of a named block.
    pub fn block(&mut self, name: &str, scope: &Rc<Scope>) -> Result<String, Fault> {
        let template = self.template;
        let body = template.blocks.get(name).ok_or_else(|| Fault::new(format!("the block `{name}` is unknown")))?;
        self.captured(body, scope)
    }

    /// The text of a named block, asked for by `self.name()`.
    pub fn own_block(&mut self, name: &str) -> Result<String, Fault> {
        let root = self.root.clone();
        self.nested(|interpreter| interpreter.block(name, &root))
    }

    fn make_macro(&mut self, definition: &Arc<Macro>, scope: &Rc<Scope>) -> Result<Value, Fault> {
        self.meter.make(64)?;
        self.macros.push((definition.clone(), scope.clone()));
        Ok(Value::Macro(self.macros.len() - 1))
    }

    fn repeat(
        &mut self,
        statement: &Arc<For>,
        items: Value,
        scope: &Rc<Scope>,
        depth: usize,
        out: &mut String,
    ) -> Result<Flow, Fault> {
        let mut items = self.items(&items)?;
        if let Some(filter) = &statement.filter {
            let mut kept = vec![];
            for item in items {
                let inner = Scope::inside(scope)?;
                self.assign(&statement.target, item.clone(), &inner)?;
                if self.evaluate(filter, &inner)?.truthy() {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            let inner = Scope::inside(scope)?;
            return self.body(&statement.otherwise, &inner, out);
        }
        self.meter.make(size_of::<Loop>())?;
        let count = items.len();
        let number = self.loops.len();
        let recursion = statement.recursive.then(|| (statement.clone(), scope.clone()));
        self.loops.push(Loop { items, at: 0, depth, changed: None, recursion });
        for at in 0..count {
            self.loops[number].at = at;
            let inner = Scope::inside(scope)?;
            let item = self.loops[number].items[at].clone();
            inner.set("loop".into(), Value::Loop(number));
            self.assign(&statement.target, item, &inner)?;
            self.meter.make(64)?;
            if self.body(&statement.body, &inner, out)? == Flow::Break {
                break;
            }
        }
        // Whoever kept the loop sees its last place, not its items.
        self.loops[number].recursion = None;
        Ok(Flow::Next)
    }

    /// `loop(items)` in a recursive loop.
    pub fn recurse(&mut self, number: usize, items: Value) -> Result<Value, Fault> {
        let Some((statement, scope)) = self.loops[number].recursion.clone() else {
            return Err(Fault::new("`loop(...)` needs `{% for ... recursive %}`"));
        };
        let depth = self.loops[number].depth + 1;
        let mut text = String::new();
        self.nested(|interpreter| interpreter.repeat(&statement, items, &scope, depth, &mut text))?;
        Ok(Value::text(text))
    }

    fn assign(&mut self, target: &Target, value: Value, scope: &Rc<Scope>) -> Result<(), Fault> {
        match target {
            Target::Name(name) => scope.set(name.clone(), value),
            Target::Attribute(name, attribute) => {
                let Value::Namespace(index) = self.variable(name, scope) else {
                    return Err(Fault::new(format!("`{name}` is no namespace: `{name}.{attribute}` cannot be set")));
                };
                functions::check_attribute(attribute)?;
                self.meter.make(size_of::<Value>())?;
                self.namespaces[index].set(Value::Text(attribute.clone()), value)?;
            }
            Target::Tuple(targets) => {
                let items = self.items(&value)?;
                if items.len() != targets.len() {
                    let (have, want) = (items.len(), targets.len());
                    return Err(Fault::new(format!("{have} values are unpacked into {want} names")));
                }
                for (target, item) in targets.iter().zip(items) {
                    self.assign(target, item, scope)?;
                }
            }
        }
        Ok(())
    }

    /// Calls a macro.
    pub fn call_macro(&mut self, number: usize, mut arguments: Arguments) -> Result<Value, Fault> {
        let (definition, scope) = self.macros[number].clone();
        let name = &definition.name;
        let inner = Scope::inside(&scope)?;
        let mut positional = std::mem::take(&mut arguments.positional).into_iter();
        for (parameter, default) in &definition.parameters {
            let given = positional.next().or_else(|| arguments.take(parameter));
            let value = match (given, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.evaluate(default, &inner)?,
                (None, None) => Value::Undefined(Some(parameter.clone())),
            };
            inner.set(parameter.clone(), value);
        }
        let rest: Vec<Value> = positional.collect();
        if definition.takes_varargs {
            inner.set("varargs".into(), Value::tuple(rest)?);
        } else if !rest.is_empty() {
            let most = definition.parameters.len();
            return Err(Fault::new(format!("the macro `{name}` takes {most} arguments at most")));
        }
        if definition.takes_caller {
            let caller = arguments.take("caller").unwrap_or_else(|| Value::undefined("caller"));
            inner.set("caller".into(), caller);
        }
        if definition.takes_kwargs {
            let mut kwargs = Dict::default();
            for (name, value) in arguments.named {
                kwargs.set(Value::Text(name), value)?;
            }
            inner.set("kwargs".into(), Value::Dict(Rc::new(kwargs)));
        } else if let Some((argument, _)) = arguments.named.first() {
            return Err(Fault::new(format!("the macro `{name}` takes no argument `{argument}`")));
        }
        let mut text = String::new();
        let line = self.line;
        self.nested(|interpreter| interpreter.body(&definition.body, &inner, &mut text))?;
        self.line = line;
        Ok(Value::text(text))
    }
}
