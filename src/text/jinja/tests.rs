//! Features of the language against jinja2's own answers (`tools/templates/features.py` writes them).

use super::*;

#[derive(serde::Deserialize)]
struct Feature {
    template: String,
    /// `None`: an error.
    expected: Option<String>,
}

/// 2026-11-29 07:05:09, a Sunday.
const NOW: i64 = 1_795_935_909;

fn run(source: &str) -> Result<String, Fault> {
    let messages = serde_json::json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi \"<é>\" 日本"},
        {"role": "assistant", "content": "Hello.", "n": 1.0},
        {"role": "user", "content": "Why?"},
    ]);
    let mut bytes = 0;
    let messages = from_json(&messages, &mut bytes)?;
    let variables = vec![("messages".into(), messages), ("tools".into(), Value::None)];
    Template::parse(source)?.render(variables, bytes, Moment::from_seconds(NOW, 42))
}

#[test]
fn every_feature_gives_what_jinja2_gives() {
    let features: Vec<Feature> = serde_json::from_str(include_str!("features.json")).expect("features");
    let mut wrong = vec![];
    for Feature { template, expected } in &features {
        let found = run(template);
        if found.as_ref().ok() != expected.as_ref() {
            wrong.push(format!("{template:?}\n  jinja2 {expected:?}\n  here   {found:?}"));
        }
    }
    assert!(features.len() > 400, "{} features", features.len());
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), features.len(), wrong.join("\n"));
}
