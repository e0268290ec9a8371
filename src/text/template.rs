//! Chat templates: the Jinja text beside a model that turns messages into the prompt that it was trained on.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

use super::TextError;

const NAME: &str = "chat_template";

/// Steps after which a template is taken to run for ever; real ones take thousands.
const FUEL: u64 = 50_000_000;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl ChatMessage {
    /// A message of a role.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template, with the tokens that it may mention.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
    /// The template in the bytes of `chat_template.jinja`, else in those of `tokenizer_config.json`; `None` when
    /// there is none. Of several named ones, the one named `default`.
    pub fn from_files(config: Option<&[u8]>, jinja: Option<&[u8]>) -> Result<Option<Self>, TextError> {
        let config: serde_json::Value = match config {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|e| TextError::Config(e.to_string()))?,
            None => serde_json::Value::Null,
        };
        let source = match jinja {
            Some(bytes) => {
                let utf8 = |e| TextError::Template(format!("chat_template.jinja is not UTF-8: {e}"));
                Some(std::str::from_utf8(bytes).map_err(utf8)?.to_owned())
            }
            None => template_of(&config)?,
        };
        let Some(source) = source else { return Ok(None) };
        // A token is either its text or an object around it.
        let token = |name: &str| {
            let value = config.get(name)?;
            value.get("content").unwrap_or(value).as_str().map(str::to_owned)
        };
        let mut environment = Environment::new();
        // As transformers sets up Jinja.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fault)?);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source).map_err(fault)?;
        Ok(Some(Self { environment, bos: token("bos_token"), eos: token("eos_token") }))
    }

    /// The prompt for a conversation; with `reply`, up to where the assistant's next message begins.
    /// It holds its special tokens itself: see [`super::Tokenizer::encode_prompt`].
    pub fn render(&self, messages: &[ChatMessage], reply: bool, thinking: Option<bool>) -> Result<String, TextError> {
        let template = self.environment.get_template(NAME).map_err(fault)?;
        let message =
            |message: &ChatMessage| context! { role => message.role.as_str(), content => message.content.as_str() };
        let variables = context! {
            messages => messages.iter().map(message).collect::<Vec<Value>>(),
            add_generation_prompt => reply,
            bos_token => self.bos.as_deref().unwrap_or_default(),
            eos_token => self.eos.as_deref().unwrap_or_default(),
            tools => Value::from(()),
        };
        // Only where somebody said so: a template that finds it undefined has a default of its own.
        let variables = match thinking {
            Some(thinking) => context! { enable_thinking => thinking, ..variables },
            None => variables,
        };
        template.render(variables).map_err(fault)
    }

    /// Texts that end a reply, should the model write them out: the end token, and what the template puts
    /// directly after an assistant's message.
    pub fn stops(&self) -> Vec<String> {
        let mut stops: Vec<String> = self.eos.iter().cloned().collect();
        stops.extend(self.next_turn().filter(|marker| self.eos.as_ref() != Some(marker)));
        stops
    }

    fn next_turn(&self) -> Option<String> {
        const SAID: &str = "selvedge-said-this";
        let turns = [("user", "a"), ("assistant", SAID), ("user", "b")];
        let rendered = self.render(&turns.map(|(role, text)| ChatMessage::new(role, text)), false, None).ok()?;
        let after = rendered.split(SAID).nth(1)?.trim_start();
        // Only what no answer would say: a tag.
        let close = match after.chars().next()? {
            '<' => '>',
            '[' => ']',
            _ => return None,
        };
        Some(after[..=after.find(close)?].to_owned())
    }
}

fn template_of(config: &serde_json::Value) -> Result<Option<String>, TextError> {
    let Some(value) = config.get("chat_template").filter(|value| !value.is_null()) else { return Ok(None) };
    let named = |name: &str| value.as_array()?.iter().find(|entry| entry["name"] == name)?["template"].as_str();
    match value.as_str().or_else(|| named("default")) {
        Some(source) => Ok(Some(source.to_owned())),
        None => Err(TextError::Config("`chat_template` is neither a text nor a list with one named `default`".into())),
    }
}

/// minijinja names the line.
fn fault(error: Error) -> TextError {
    TextError::Template(error.to_string())
}

/// As Python's `json.dumps(value, ensure_ascii=False)` writes it, which models were trained on: spaces after
/// commas and colons, no escapes for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut out = vec![];
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, pretty))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    let bad = |e: String| Error::new(ErrorKind::BadSerialization, e);
    written.map_err(|e| bad(e.to_string()))?;
    String::from_utf8(out).map_err(|e| bad(e.to_string()))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> Result<ChatTemplate, TextError> {
        let config = br#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}"#;
        ChatTemplate::from_files(Some(config), Some(source.as_bytes())).map(|found| found.expect("a template"))
    }

    fn render(source: &str) -> Result<String, TextError> {
        template(source)?.render(&[ChatMessage::new("user", "Hi \"<é>\"")], true, Some(false))
    }

    #[test]
    fn hymbas_template_gives_its_prompt_and_its_stops() {
        let config = include_bytes!("../../assets/demo/tokenizer_config.json");
        let template = ChatTemplate::from_files(Some(config), None).expect("valid").expect("a template");
        let messages = [ChatMessage::new("system", "You are a helpful assistant."), ChatMessage::new("user", "Hi")];
        let expected =
            "<extra_id_0>System\nYou are a helpful assistant.\n\n<extra_id_1>User\nHi\n<extra_id_1>Assistant\n";
        assert_eq!(template.render(&messages, true, None).expect("a prompt"), expected);
        assert_eq!(template.stops(), ["</s>", "<extra_id_1>"]);
    }

    #[test]
    fn templates_find_what_transformers_gives_them() {
        let cases = [
            ("{{ bos_token }}{{ messages[0].role.title() }}{{ eos_token }}", "<s>User</s>"),
            ("  {% if true %}\nx\n  {% endif %}\ny\n", "x\ny"),
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "Hi \"<é>\""}"#),
            ("{{ tools is none }} {{ enable_thinking }}", "True False"),
            ("{% if tools %}x{% endif %}{{ messages[0]['content'].split(' ')[0] }}", "Hi"),
        ];
        for (source, expected) in cases {
            assert_eq!(render(source).expect(source), expected, "{source}");
        }
    }

    #[test]
    fn faults_are_told_with_their_line() {
        for (source, line, word) in [
            ("a\n{% if %}", "2", "syntax"),
            ("a\nb\n{{ raise_exception('roles must alternate') }}", "3", "roles must alternate"),
            ("a\n{{ messages.nothing.at.all }}", "2", "undefined"),
            ("{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}", "1", "fuel"),
        ] {
            let error = render(source).expect_err(source).to_string();
            assert!(error.contains(&format!(":{line}")) && error.contains(word), "{error}");
        }
    }
}
