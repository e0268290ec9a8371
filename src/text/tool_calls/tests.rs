use proptest::prelude::*;
use serde_json::{Value, json};

use super::ToolCallDialect::*;
use super::*;

fn tools() -> Vec<Value> {
    let properties = json!({
        "city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"},
        "stops": {"type": "array"}, "options": {"type": "object"},
    });
    let function = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}});
    vec![function("weather"), function("route")]
}

/// What an answer is: its text, and its calls with their arguments.
#[derive(Clone, Debug, Default, PartialEq)]
struct Read {
    text: String,
    calls: Vec<(String, String)>,
}

impl Read {
    fn take(&mut self, pieces: Vec<ToolPiece>) {
        for piece in pieces {
            match piece {
                ToolPiece::Text(text) => {
                    assert!(!text.is_empty());
                    self.text.push_str(&text);
                }
                ToolPiece::Begun { index, name } => {
                    assert_eq!(index, self.calls.len());
                    self.calls.push((name, String::new()));
                }
                ToolPiece::Arguments { index, text } => {
                    assert_eq!(index + 1, self.calls.len(), "arguments are of the last call");
                    self.calls[index].1.push_str(&text);
                }
            }
        }
    }
}

/// Reads an answer in pieces of `size` characters.
fn read(dialect: ToolCallDialect, answer: &str, size: usize) -> Read {
    let mut parser = ToolCallParser::new(dialect, &tools());
    let letters: Vec<char> = answer.chars().collect();
    let mut read = Read::default();
    for piece in letters.chunks(size) {
        read.take(parser.push(&piece.iter().collect::<String>()));
    }
    read.take(parser.finish());
    read
}

fn check(dialect: ToolCallDialect, answer: &str, text: &str, calls: &[(&str, &str)]) {
    let calls = calls.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect();
    let expected = Read { text: text.to_owned(), calls };
    for size in [1, 2, 3, 7, 1000] {
        assert_eq!(read(dialect, answer, size), expected, "{dialect:?} {answer:?} in pieces of {size}");
    }
}

/// Answers with calls as the models write them: the text, and the calls.
type Sample = (ToolCallDialect, &'static str, &'static str, &'static [(&'static str, &'static str)]);
const SAMPLES: &[Sample] = &[
    // One call, text before it, several, text between and behind, in a list.
    (
        Hermes,
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}}\n</tool_call>",
        "",
        &[("weather", r#"{"city": "Zürich", "days": 2}"#)],
    ),
    (
        Hermes,
        "Let me look.\n<tool_call>{\"name\":\"weather\",\"arguments\":{\"city\":\"A \\\"}</tool_call>\"}}</tool_call>\n<tool_call>\n{\"name\": \"route\", \"arguments\": {}}\n</tool_call>\n",
        "Let me look.\n",
        &[("weather", r#"{"city":"A \"}</tool_call>"}"#), ("route", "{}")],
    ),
    (
        Hermes,
        "<tool_call>{\"name\": \"route\", \"arguments\": {\"stops\": [1, [2]]}}</tool_call>\n\nThat is all.",
        "\n\nThat is all.",
        &[("route", r#"{"stops": [1, [2]]}"#)],
    ),
    (
        Hermes,
        "<tool_call>\n[\n{\"name\": \"route\", \"arguments\": {\"days\": 1}},\n{\"name\": \"weather\", \"arguments\": {}}\n]\n</tool_call>",
        "",
        &[("route", r#"{"days": 1}"#), ("weather", "{}")],
    ),
    (
        Hermes,
        "<tool_call>{\"name\": \"a\", \"arguments\": {}}\n{\"name\": \"b\", \"arguments\": {}}</tool_call>",
        "",
        &[("a", "{}"), ("b", "{}")],
    ),
    // Arguments before the name, as a text, as null, none; further fields; OpenAI's object around it.
    (
        Hermes,
        "<tool_call>{\"arguments\": {\"days\": 3}, \"name\": \"weather\"}</tool_call>",
        "",
        &[("weather", r#"{"days": 3}"#)],
    ),
    (
        Hermes,
        r#"<tool_call>{"name": "weather", "arguments": "{\"city\": \"Rome\"}"}</tool_call>"#,
        "",
        &[("weather", r#"{"city": "Rome"}"#)],
    ),
    (Hermes, r#"<tool_call>{"name": "a", "arguments": null}</tool_call>"#, "", &[("a", "{}")]),
    (Hermes, r#"<tool_call>{"name": "a", "arguments": "so"}</tool_call>"#, "", &[("a", "\"so\"")]),
    (Hermes, r#"<tool_call>{"name": "a"}</tool_call>"#, "", &[("a", "{}")]),
    (Hermes, r#"<tool_call>{"name": "a", "arguments": 5}</tool_call>"#, "", &[("a", "5")]),
    (
        Hermes,
        r#"<tool_call>{"id": [1, {"name": "no"}], "type": "function", "function": {"name": "a", "arguments": {"b": 1}}}</tool_call>"#,
        "",
        &[("a", r#"{"b": 1}"#)],
    ),
    // A line end amid a string, which JSON does not allow.
    (
        Hermes,
        "<tool_call>{\"name\": \"a\", \"arguments\": {\"b\": \"1\n2\"}}</tool_call>",
        "",
        &[("a", r#"{"b": "1\n2"}"#)],
    ),
    // A model of one form that writes the other.
    (
        Hermes,
        "<tool_call><function=weather><parameter=days>3</parameter></function></tool_call>",
        "",
        &[("weather", r#"{"days": 3}"#)],
    ),
    (Qwen3Coder, r#"<tool_call>{"name": "a", "arguments": {"b": 1}}</tool_call>"#, "", &[("a", r#"{"b": 1}"#)]),
    (
        Qwen3Coder,
        "I look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nNew \"York\"\n</parameter>\n<parameter=days>\n2\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=route>\n<parameter=stops>\n[\"a\", 1]\n</parameter>\n<parameter=note>\n7\n\n</parameter>\n</function>\n</tool_call>",
        "I look.\n\n",
        &[
            ("weather", r#"{"city": "New \"York\"", "days": 2, "exact": true}"#),
            ("route", r#"{"stops": ["a", 1], "note": "7\n"}"#),
        ],
    ),
    (Qwen3Coder, "<tool_call>\n<function=route>\n</function>\n</tool_call>", "", &[("route", "{}")]),
    // Without the outer tag, without closing tags, two functions in one tag.
    (
        Qwen3Coder,
        "<function=weather>\n<parameter=city>\n2 < 3 <b>\n<parameter=days>\n1\n</function>\n</tool_call>",
        "",
        &[("weather", r#"{"city": "2 < 3 <b>", "days": 1}"#)],
    ),
    (
        Qwen3Coder,
        "<tool_call><function=a><parameter=b>a <parameter=x></parameter></tool_call><tool_call><function=c></function><function=d></function></tool_call>",
        "",
        &[("a", r#"{"b": "a <parameter=x>"}"#), ("c", "{}"), ("d", "{}")],
    ),
    (
        Nemotron,
        r#"<TOOLCALL>[{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "route", "arguments": {}}]</TOOLCALL>"#,
        "",
        &[("weather", r#"{"city": "Oslo"}"#), ("route", "{}")],
    ),
    (
        Granite3,
        r#"<|tool_call|>[{"name": "weather", "arguments": {"city": "Oslo"}},{"name": "route", "arguments": {}}]"#,
        "",
        &[("weather", r#"{"city": "Oslo"}"#), ("route", "{}")],
    ),
    (Granite3, r#"<tool_call>[{"name": "a", "arguments": {}}]"#, "", &[("a", "{}")]),
    (
        Lfm2,
        r#"Sure. <|tool_call_start|>[weather(city="Lyon, \"old\" town", days=-2, exact=False), route(stops=['it's', None, {"a": 0.5}], options={'k': 'v'})]<|tool_call_end|>Looking it up."#,
        "Sure. Looking it up.",
        &[
            ("weather", r#"{"city": "Lyon, \"old\" town", "days": -2, "exact": false}"#),
            ("route", r#"{"stops": ["it's",null,{"a":0.5}], "options": {"k":"v"}}"#),
        ],
    ),
    (Lfm2, "<|tool_call_start|>[now()]<|tool_call_end|>", "", &[("now", "{}")]),
    (Lfm2, "<|tool_call_start|>os.list( city = 12 , )<|tool_call_end|>", "", &[("os.list", r#"{"city": 12}"#)]),
    (Lfm2, "<|tool_call_start|>[weather(city=12)]<|tool_call_end|>", "", &[("weather", r#"{"city": "12"}"#)]),
    (
        Lfm2,
        r#"<|tool_call_start|>[{"name": "weather", "arguments": {"city": "Bern"}}]<|tool_call_end|>"#,
        "",
        &[("weather", r#"{"city": "Bern"}"#)],
    ),
    (Llama3, r#"{"name": "weather", "parameters": {"city": "Bonn"}}"#, "", &[("weather", r#"{"city": "Bonn"}"#)]),
    (
        Llama3,
        "\n{\"name\": \"weather\", \"parameters\": {}}; {\"name\": \"route\", \"parameters\": {\"days\": \"1\"}}",
        "\n",
        &[("weather", "{}"), ("route", r#"{"days": "1"}"#)],
    ),
    (Llama3, r#"I call <|python_tag|>{"name": "anything", "parameters": {}}"#, "I call ", &[("anything", "{}")]),
];

#[test]
fn each_dialect_is_read_however_it_is_cut() {
    for (dialect, answer, text, calls) in SAMPLES {
        check(*dialect, answer, text, calls);
        for (_, arguments) in *calls {
            assert!(serde_json::from_str::<Value>(arguments).is_ok(), "{arguments}");
        }
    }
}

#[test]
fn what_is_no_call_is_text() {
    for (dialect, answer) in [
        (Hermes, "a < b <tool_cal <tool_call"),
        (Hermes, "<tool_call>none</tool_call> and \n"),
        (Hermes, "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>"),
        (Hermes, "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>"),
        (Hermes, "<tool_call>{\"arguments\": {\"a\": [1, 2}}</tool_call>"),
        (Hermes, "<tool_call>{}</tool_call>"),
        (Hermes, "<tool_call>[]</tool_call>"),
        (Hermes, "<tool_call>{'name': 'a'}</tool_call>"),
        (Hermes, "<tool_call>\n  {\"na"),
        (Hermes, "<TOOLCALL>[{\"name\": \"a\"}]</TOOLCALL>{\"name\": \"a\"}"),
        (Qwen3Coder, "<tool_call><function=></function></tool_call>"),
        (Qwen3Coder, "<function=a\n> <functions> <tool_call><parameter=a>"),
        (Nemotron, "<TOOLCALL>weather()</TOOLCALL>"),
        (Granite3, "<|tool_call|> none"),
        (Lfm2, "<|tool_call_start|>[weather]<|tool_call_end|> [weather(city=1)]"),
        (Lfm2, "<|tool_call_start|>[1 + 2]<|tool_call_end|>"),
        // JSON that a user asked for is no call of a tool.
        (Llama3, r#"{"name": "Ada", "parameters": 3}"#),
        (Llama3, r#"{"city": "Bonn"}"#),
        (Llama3, r#"It is {"name": "weather", "parameters": {}}"#),
        (Llama3, "<|python_tag|>print(1)"),
    ] {
        check(dialect, answer, answer, &[]);
    }
}

#[test]
fn what_breaks_behind_a_name_is_not_lost() {
    for (dialect, answer, text, calls) in [
        // Arguments that are no JSON stay as they are.
        (
            Hermes,
            "<tool_call>{\"name\": \"a\", \"arguments\": {\"b\": 'c'}}</tool_call>more",
            "more",
            &[("a", "{\"b\": 'c'}}")][..],
        ),
        (Hermes, "<tool_call>{\"name\": \"a\", \"arguments\": {\"b\": tru", "", &[("a", "{\"b\": tru")]),
        (Hermes, "<tool_call>{\"name\": \"a\", \"arguments\": \"b", "", &[("a", "\"b")]),
        // Without arguments the rest is text.
        (Hermes, "<tool_call>{\"name\": \"a\", so}</tool_call>", ", so}</tool_call>", &[("a", "{}")]),
        (Hermes, "<tool_call>{\"name\": \"a\", \"arguments\": {}}so</tool_call>", "so</tool_call>", &[("a", "{}")]),
        // Another marker where a call was not closed.
        (
            Hermes,
            "<tool_call>{\"name\": \"a\", \"arguments\": {}}<tool_call>{\"name\": \"b\"}</tool_call>",
            "",
            &[("a", "{}"), ("b", "{}")],
        ),
        (Hermes, "<tool_call>\n<tool_call>{\"name\": \"b\"}</tool_call>", "<tool_call>\n", &[("b", "{}")]),
        (
            Qwen3Coder,
            "<function=a><parameter=b>1</parameter>or <i>2</i></function>",
            "or <i>2</i></function>",
            &[("a", r#"{"b": "1"}"#)],
        ),
        (Qwen3Coder, "<function=a>\n<parameter=b>\n1\n\"2", "", &[("a", r#"{"b": "1\n\"2"#)]),
        (Qwen3Coder, "<function=a>\n<parameter=b>1</parameter>\n", "", &[("a", r#"{"b": "1"}"#)]),
        (Qwen3Coder, "<function=a>\n<parameter=b", "<parameter=b", &[("a", "{}")]),
        (
            Qwen3Coder,
            "<tool_call><function=a></function><tool_call><function=b><parameter=c>1</parameter><tool_call>x",
            "<tool_call>x",
            &[("a", "{}"), ("b", r#"{"c": "1"}"#)],
        ),
        (Lfm2, "<|tool_call_start|>[a()<|tool_call_start|>[b()]<|tool_call_end|>", "", &[("a", "{}"), ("b", "{}")]),
        (Lfm2, "<|tool_call_start|>[a(b=1, 2)]<|tool_call_end|>", " 2)]<|tool_call_end|>", &[("a", r#"{"b": 1}"#)]),
        (Lfm2, "<|tool_call_start|>[a(b=c d)]<|tool_call_end|>", "b=c d)]<|tool_call_end|>", &[("a", "{}")]),
        (Lfm2, "<|tool_call_start|>[a(b='1 \"2", "", &[("a", r#"{"b": "1 \"2"#)]),
    ] {
        check(dialect, answer, text, calls);
    }
}

#[test]
fn text_and_names_come_at_once_and_arguments_grow() {
    let mut parser = ToolCallParser::new(Hermes, &[]);
    assert_eq!(parser.push("Hi <b>"), [ToolPiece::Text("Hi <b>".into())]);
    assert_eq!(parser.push("<tool_"), []);
    assert_eq!(parser.push("call>{\"name\": \"a\""), [ToolPiece::Begun { index: 0, name: "a".into() }]);
    let arguments = |text: &str| [ToolPiece::Arguments { index: 0, text: text.into() }];
    assert_eq!(parser.push(", \"arguments\": {\"b\": \"c"), arguments("{\"b\": \"c"));
    assert_eq!(parser.push("d"), arguments("d"));
    assert_eq!(parser.push("\"}}</tool_call>\n"), arguments("\"}"));
    assert_eq!(parser.finish(), []);
}

#[test]
fn only_the_first_call_is_told_where_only_one_is_wanted() {
    let answer = "<tool_call>{\"name\": \"a\"}</tool_call><tool_call>{\"name\": \"b\"}</tool_call>so";
    let mut parser = ToolCallParser::new(Hermes, &[]).first_only();
    let mut read = Read::default();
    read.take(parser.push(answer));
    read.take(parser.finish());
    assert_eq!(read, Read { text: "so".into(), calls: vec![("a".into(), "{}".into())] });
}

#[test]
fn long_arguments_take_no_longer_for_each_of_their_pieces() {
    // A parser that looks at everything again with each piece needs minutes for these.
    let value = "x<y ".repeat(250_000);
    for (dialect, answer) in [
        (Hermes, format!("<tool_call>{{\"arguments\": {{\"a\": \"{value}\"}}, \"name\": \"f\"}}</tool_call>")),
        (Qwen3Coder, format!("<function=f><parameter=a>{value}</parameter></function>")),
        (Lfm2, format!("<|tool_call_start|>[f(a='{value}')]<|tool_call_end|>")),
    ] {
        let read = read(dialect, &answer, 1);
        assert_eq!(read.calls, [("f".to_owned(), format!("{{\"a\": \"{value}\"}}"))]);
    }
}

fn dialects() -> impl Strategy<Value = ToolCallDialect> {
    prop_oneof![Just(Hermes), Just(Qwen3Coder), Just(Nemotron), Just(Granite3), Just(Lfm2), Just(Llama3)]
}

/// Texts of the parts that calls have.
fn answers() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        prop::sample::select(vec![
            "<tool_call>",
            "</tool_call>",
            "<TOOLCALL>",
            "</TOOLCALL>",
            "<|tool_call|>",
            "<|tool_call_start|>",
            "<|tool_call_end|>",
            "<|python_tag|>",
            "<function=",
            "</function>",
            "<parameter=",
            "</parameter>",
            ">",
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            "=",
            ",",
            ";",
            "\"name\": \"weather\"",
            "\"arguments\": ",
            "\"parameters\": ",
            "{\"name\": \"route\", \"arguments\": {\"a\": ",
            "weather(city=",
            "\"",
            "'",
            "\\",
            "\n",
            " ",
            "1",
            "true",
            "null",
            "{\"a\": 1}",
            "x",
            "é",
        ])
        .prop_map(str::to_owned),
        r"\PC{0,3}",
    ];
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_alike_however_it_is_cut(dialect in dialects(), answer in answers(), size in 1usize..9) {
        let whole = read(dialect, &answer, usize::MAX);
        prop_assert_eq!(&read(dialect, &answer, size), &whole);
        if whole.calls.is_empty() {
            prop_assert_eq!(&whole.text, &answer);
        }
        // Letters that are no markup are in the text, a name or an argument.
        let told: String = whole.calls.iter().map(|(name, arguments)| format!("{name}{arguments}")).collect();
        let letters = |text: &str| text.chars().filter(|c| *c == 'é').count();
        prop_assert!(whole.calls.len() > 1 || letters(&told) + letters(&whole.text) <= letters(&answer));
    }

    #[test]
    fn arguments_are_those_of_the_call(city in r#"[a-z "\\<>=é{}\[\],:;/\n]{0,20}"#, days in any::<i64>(), size in 1usize..9) {
        let arguments = json!({ "city": city, "days": days, "options": { "a": [null, city] } });
        let call = |key: &str| json!({ "name": "weather", key: arguments }).to_string();
        for (dialect, answer) in [
            (Hermes, format!("<tool_call>\n{}\n</tool_call>", call("arguments"))),
            (Nemotron, format!("<TOOLCALL>[{0}, {0}]</TOOLCALL>", call("arguments"))),
            (Granite3, format!("<|tool_call|>[{}]", call("arguments"))),
            (Llama3, call("parameters")),
            (Lfm2, format!("<|tool_call_start|>[weather(city={}, days={days}, options={})]<|tool_call_end|>",
                arguments["city"], arguments["options"])),
            (Qwen3Coder, format!(
                "<tool_call>\n<function=weather>\n<parameter=city>\n{city}\n</parameter>\n<parameter=days>\n{days}\n</parameter>\n<parameter=options>\n{}\n</parameter>\n</function>\n</tool_call>",
                arguments["options"])),
        ] {
            let read = read(dialect, &answer, size);
            prop_assert_eq!(&read.text, "");
            for (name, got) in &read.calls {
                prop_assert_eq!(name, "weather");
                prop_assert_eq!(serde_json::from_str::<Value>(got).expect("JSON"), arguments.clone());
            }
            prop_assert_eq!(read.calls.len(), if dialect == Nemotron { 2 } else { 1 });
        }
    }
}
