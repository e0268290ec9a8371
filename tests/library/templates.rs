//! Chat templates from strangers: hostile ones in a process with little memory, and published ones against jinja2.

use std::process::Command;

use selvedge::text::{ChatMessage, ChatTemplate, RenderRequest};

fn render(source: &str) -> Result<String, String> {
    let template = ChatTemplate::from_files(None, Some(source.as_bytes())).map_err(|error| error.to_string())?;
    let template = template.ok_or("no template")?;
    template.render(&RenderRequest::new(&[ChatMessage::new("user", "Hi")], true)).map_err(|error| error.to_string())
}

/// Templates that would take the stack, the memory or the time of their host; a word of what each is told.
fn hostile() -> Vec<(String, &'static str)> {
    let ns = |body: &str| format!("{{% set ns = namespace(x='ab', v=[]) %}}{body}");
    let repeat = |times: usize, body: &str| format!("{{% for i in range({times}) %}}{body}{{% endfor %}}");
    let mut cases: Vec<(String, &str)> = vec![
        (ns("{% set ns.x = ns %}{{ ns }}"), "levels"),
        (ns("{% set ns.x = ns %}{{ ns | tojson }}"), "JSON"),
        (ns("{% set ns.x = [ns] %}{{ ns.x | string }}"), "levels"),
        (ns(&repeat(90_000, "{% set ns.v = [ns.v] %}")), "levels"),
        (ns(&repeat(90_000, "{% set ns.v = {'a': ns.v} %}")), "levels"),
        (ns(&repeat(90_000, "{% set ns.v = (ns.v, ns.v) %}")), "levels"),
        (ns(&(repeat(100, "{% set ns.v = [ns.v, ns.v] %}") + "{{ ns.v }}")), "the template"),
        (
            ns(&(repeat(100, "{% set ns.v = [ns.v, ns.v] %}") + "{{ ns.v == ns.v[0] }}{{ ns.v | tojson }}")),
            "the template",
        ),
        (ns(&repeat(60, "{% set ns.x = ns.x ~ ns.x %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.x = ns.x + ns.x %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.v = ns.v + [1] + ns.v %}")), "MiB"),
        (ns(&repeat(60, "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.x = ns.x | replace('a', 'aa') | replace('b', 'bb') %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.x = ns.x | join(ns.x) %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.x = [ns.x, ns.x] | join %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.x = '{0}{0}'.format(ns.x) %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.x = '%s%s' % (ns.x, ns.x) %}")), "MiB"),
        (ns(&repeat(60, "{% set ns.x = ns.x | tojson | tojson %}")), "MiB"),
        (repeat(99_999, &repeat(99_999, "")), "the template"),
        (repeat(99_999, &repeat(99_999, "x")), "the template"),
        (repeat(99_999, "{{ range(99999) | list | sum }}"), "the template"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(), "macro"),
        ("{% macro f(n) %}{% call f(n) %}{% endcall %}{{ caller }}{% endmacro %}{{ f(1) }}".into(), "the template"),
        ("{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}".into(), "macro"),
        ("{% block a %}{{ self.a() }}{% endblock %}".into(), "macro"),
        ("{{ 10 ** 100 }}".into(), "digits"),
        ("{{ range(10 ** 12) }}".into(), "range"),
    ];
    for bomb in [
        "'%9000000000d' % 1",
        "'%.9000000000f' % 1.0",
        "'%*d' % (9000000000, 1)",
        "'{:9000000000}'.format('a')",
        "'{:>{w}}'.format('a', w=9000000000)",
        "'{:.9000000000f}'.format(1.0)",
        "'a' * 9000000000",
        "[1] * 9000000000",
        "9000000000 * 'ab'",
        "'a'.center(9000000000)",
        "'a'.ljust(9000000000)",
        "'a'.rjust(9000000000)",
        "'a'.zfill(9000000000)",
        "'\t'.expandtabs(9000000000)",
        "'a' | center(9000000000)",
        "'a\nb' | indent(9000000000)",
        "{'a': [1]} | tojson(indent=9000000000)",
        "[1] | batch(9000000000, 0) | list",
        "[1] | slice(9000000000) | list",
        "'%9000000000s' | format('a')",
        "('a' * 9000000) | replace('', 'bbbbbbbbbb')",
        "'a'.join('b' * 60000000)",
        "('x' * 30000000) | list",
    ] {
        cases.push((format!("{{{{ {bomb} }}}}"), "MiB"));
    }
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("not ", ""), ("-", ""), ("a[", "]"), ("f(", ")")] {
        cases.push((format!("{{{{ {}1{} }}}}", open.repeat(9000), close.repeat(9000)), "nested"));
    }
    cases.push(("{% if 1 %}".repeat(9000) + &"{% endif %}".repeat(9000), "nested"));
    cases.push((format!("{{{{ 1 {} }}}}", "if 1 else 2 ".repeat(9000)), "nested"));
    cases.push(("x".repeat(2 << 20), "bytes"));
    cases
}

/// Long chains of one rank are no nesting.
fn long_chains() -> Vec<(String, String)> {
    let chain = |first: &str, more: &str| format!("{{{{ {first}{} }}}}", more.repeat(20_000));
    vec![
        (chain("1", " + 1"), "20001".into()),
        (chain("'a'", " ~ 'b'"), "a".to_owned() + &"b".repeat(20_000)),
        (chain("1", " and 1"), "1".into()),
        (chain("0", " or 0"), "0".into()),
        (chain("1", " == 1"), "True".into()),
        (chain("'a'", " | string"), "a".into()),
        ("{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(20_000) + "{% else %}x{% endif %}", "x".into()),
    ]
}

/// Runs in the process of the test below only.
#[test]
fn hostile_templates_here() {
    if std::env::var_os("SELVEDGE_HOSTILE").is_none() {
        return;
    }
    for (source, word) in hostile() {
        let start: String = source.chars().take(120).collect();
        println!("{start}");
        let error = render(&source).expect_err(&start);
        assert!(error.contains(word) && error.contains("chat_template.jinja"), "{start}: {error}");
    }
    for (source, expected) in long_chains() {
        let start: String = source.chars().take(40).collect();
        println!("{start}");
        assert_eq!(render(&source).as_deref(), Ok(&*expected), "{start}");
    }
}

#[cfg(unix)]
#[test]
fn hostile_templates_are_refused_within_little_memory() {
    const KIBIBYTES: usize = 1 << 20;
    let limited = format!("ulimit -v {KIBIBYTES}; exec \"$@\"");
    let test = std::env::current_exe().expect("this program");
    let mut child = Command::new("sh");
    child.args(["-c", &limited, "sh"]).arg(test);
    child
        .args(["templates::hostile_templates_here", "--nocapture", "--test-threads", "1"])
        .env("SELVEDGE_HOSTILE", "1");
    let done = child.output().expect("a shell");
    let told = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(done.status.success(), "{}: {}\n{}", done.status, told[0], told[1]);
    assert!(told[0].contains("1 passed"), "{}", told[0]);
}

#[derive(serde::Deserialize)]
struct Rendering {
    template: String,
    conversation: String,
    source: String,
    tokens: serde_json::Value,
    messages: Vec<ChatMessage>,
    tools: Option<Vec<serde_json::Value>>,
    documents: Option<Vec<serde_json::Value>>,
    kwargs: serde_json::Map<String, serde_json::Value>,
    add_generation_prompt: bool,
    /// What jinja2 gives; `None`: an error.
    expected: Option<String>,
}

/// Renderings that differ, with the reason; see `docs/chat-templates.md`.
const DIFFER: [(&str, &str); 0] = [];

/// Each template that llama.cpp collects, over each conversation of `tools/templates/published.py`, which
/// `cargo xtask test --all` runs. SELVEDGE_TEMPLATES is the file that it wrote.
#[test]
fn published_templates_render_as_jinja2_renders_them() {
    let Some(path) = std::env::var_os("SELVEDGE_TEMPLATES") else {
        println!("published templates are not tested: SELVEDGE_TEMPLATES names no file of renderings");
        return;
    };
    let text = std::fs::read_to_string(path).expect("the renderings");
    let (mut same, mut wrong) = (0, vec![]);
    for line in text.lines() {
        let case: Rendering = serde_json::from_str(line).expect("a rendering");
        let config = case.tokens.to_string();
        let template = ChatTemplate::from_files(Some(config.as_bytes()), Some(case.source.as_bytes()));
        let request = RenderRequest {
            tools: case.tools.as_deref(),
            documents: case.documents.as_deref(),
            kwargs: Some(&case.kwargs),
            ..RenderRequest::new(&case.messages, case.add_generation_prompt)
        };
        let found = template.and_then(|template| template.expect("a template").render(&request));
        let name = format!("{} over {}", case.template, case.conversation);
        let excused = DIFFER.iter().any(|(known, _)| *known == name);
        if found.as_ref().ok() == case.expected.as_ref() {
            assert!(!excused, "{name} is equal now");
            same += 1;
        } else if !excused {
            wrong.push(format!("{name}\n  jinja2 {:?}\n  here   {found:?}", case.expected));
        }
    }
    println!("{same} renderings are the same");
    assert!(same + wrong.len() > 1000, "only {} renderings", same + wrong.len());
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), same + wrong.len(), wrong.join("\n"));
}
