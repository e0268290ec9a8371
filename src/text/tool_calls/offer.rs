//! Tools of a request in OpenAI's shape: what the model is told of, and what it must call.

use serde_json::Value;

use super::{ToolCallDialect, ToolGrammar};
use crate::text::{TextError, Tokenizer};

/// Most tools of a request.
const MOST_TOOLS: usize = 256;

/// Tools of a request, as OpenAI has the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolOffer {
    /// Functions that the model may call.
    pub tools: Option<Vec<Value>>,
    /// `none`, `auto`, `required`, or a function by its name; `None`: `auto`.
    pub choice: Option<Value>,
}

/// Tools that cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ToolOfferError {
    /// Field of the request that is wrong: `tools` or `tool_choice`.
    pub field: &'static str,
    why: String,
}

/// What the model may do with its tools.
#[derive(Debug, PartialEq)]
enum Choice<'a> {
    None,
    Auto,
    Required,
    Named(&'a str),
}

impl ToolOffer {
    /// The tools that the model is told of.
    pub fn told(&self) -> Result<Option<Vec<Value>>, ToolOfferError> {
        let refuse = |why: String| Err(ToolOfferError { field: "tools", why });
        let choice = self.choice()?;
        let Some(tools) = self.tools.as_ref().filter(|tools| !tools.is_empty()) else {
            return match choice {
                Choice::Required | Choice::Named(_) => {
                    refuse("`tool_choice` asks for a call, and there are no `tools`".into())
                }
                Choice::None | Choice::Auto => Ok(None),
            };
        };
        if tools.len() > MOST_TOOLS {
            return refuse(format!("`tools` may be {MOST_TOOLS} functions"));
        }
        if !tools.iter().all(|tool| tool["type"] == "function" && tool["function"]["name"].is_string()) {
            return refuse("`tools` must be a list of functions, each with a name".into());
        }
        Ok(if choice == Choice::None { None } else { Some(tools.clone()) })
    }

    /// The dialect in which calls are read: the template's, or one that is plain text where a call must be made.
    pub fn dialect(&self, of_template: Option<ToolCallDialect>) -> Option<ToolCallDialect> {
        let must = matches!(self.choice(), Ok(Choice::Required | Choice::Named(_)));
        of_template.or(must.then_some(ToolCallDialect::Hermes))
    }

    /// What binds the text of the reply: a call that must be made, or functions that are `strict`. `None`: nothing. A text
    /// that is `bound` by another grammar leaves no place for calls that may be made.
    pub fn grammar(
        &self,
        bound: bool,
        of_template: Option<ToolCallDialect>,
        tokenizer: &Tokenizer,
    ) -> Result<Option<ToolGrammar>, ToolOfferError> {
        let refuse = |error: TextError| ToolOfferError { field: "tools", why: error.to_string() };
        let name = match self.choice()? {
            Choice::None => return Ok(None),
            Choice::Auto if bound => return Ok(None),
            Choice::Auto => {
                let tools = self.told()?.unwrap_or_default();
                let dialect = of_template.filter(|_| tools.iter().any(|tool| tool["function"]["strict"] == true));
                let grammar = dialect.map(|dialect| dialect.strict_grammar(&tools, tokenizer));
                return grammar.transpose().map(|source| source.map(ToolGrammar::Strict)).map_err(refuse);
            }
            Choice::Required => None,
            Choice::Named(name) => Some(name),
        };
        let mut tools = self.told()?.unwrap_or_default();
        tools.retain(|tool| name.is_none_or(|name| tool["function"]["name"] == name));
        if tools.is_empty() {
            let why = format!("`tool_choice` names `{}`, which is none of `tools`", name.unwrap_or_default());
            return Err(ToolOfferError { field: "tool_choice", why });
        }
        let Some(dialect) = self.dialect(of_template) else { return Ok(None) };
        dialect.call_grammar(&tools, tokenizer).map(|source| Some(ToolGrammar::Call(source))).map_err(refuse)
    }

    fn choice(&self) -> Result<Choice<'_>, ToolOfferError> {
        match &self.choice {
            None | Some(Value::Null) => return Ok(Choice::Auto),
            Some(Value::String(choice)) => match choice.as_str() {
                "none" => return Ok(Choice::None),
                "auto" => return Ok(Choice::Auto),
                "required" => return Ok(Choice::Required),
                _ => {}
            },
            Some(choice) => {
                if let (Some("function"), Some(name)) = (choice["type"].as_str(), choice["function"]["name"].as_str()) {
                    return Ok(Choice::Named(name));
                }
            }
        }
        let forms = r#""none", "auto", "required" or {"type": "function", "function": {"name": NAME}}"#;
        Err(ToolOfferError { field: "tool_choice", why: format!("`tool_choice` may be {forms}") })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn choices_are_those_of_openai() {
        let one = vec![json!({ "type": "function", "function": { "name": "f" } })];
        let told = |choice: Value| ToolOffer { tools: Some(one.clone()), choice: Some(choice) }.told();
        for choice in
            [Value::Null, json!("auto"), json!("required"), json!({ "type": "function", "function": { "name": "f" } })]
        {
            assert_eq!(told(choice.clone()), Ok(Some(one.clone())), "{choice}");
        }
        assert_eq!(told(json!("none")), Ok(None));
        for choice in [json!(5), json!(true), json!([]), json!("any"), json!({ "type": "allowed_tools" })] {
            assert_eq!(told(choice.clone()).map_err(|error| error.field), Err("tool_choice"), "{choice}");
        }
        let field = |tools: Value, choice: Value| {
            let offer = ToolOffer { tools: serde_json::from_value(tools).expect("a list"), choice: Some(choice) };
            offer.told().map_err(|error| error.field)
        };
        assert_eq!(field(Value::Null, json!("required")), Err("tools"));
        assert_eq!(field(json!([{ "type": "function" }]), Value::Null), Err("tools"));
        assert_eq!(field(json!([]), Value::Null), Ok(None));
    }
}
