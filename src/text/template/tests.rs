use serde_json::json;

use super::*;

fn template(source: &str) -> Result<ChatTemplate, TextError> {
    let config = br#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null, "image_token": "<i>",
        "extra_special_tokens": {"call_token": "<c>"}}"#;
    ChatTemplate::from_files(Some(config), Some(source.as_bytes())).map(|found| found.expect("a template"))
}

fn message(fields: Value) -> ChatMessage {
    ChatMessage::from_json(fields).expect("a message")
}

fn render(source: &str) -> Result<String, TextError> {
    template(source)?.render(&RenderRequest::new(&[ChatMessage::new("user", "Hi \"<é>\"")], true))
}

#[test]
fn hymbas_template_gives_its_prompt_and_its_stops() {
    let config = include_bytes!("../../../assets/demo/tokenizer_config.json");
    let template = ChatTemplate::from_files(Some(config), None).expect("valid").expect("a template");
    let messages = [ChatMessage::new("system", "You are a helpful assistant."), ChatMessage::new("user", "Hi")];
    let expected = "<extra_id_0>System\nYou are a helpful assistant.\n\n<extra_id_1>User\nHi\n<extra_id_1>Assistant\n";
    assert_eq!(template.render(&RenderRequest::new(&messages, true)).expect("a prompt"), expected);
    assert_eq!(template.stops(), ["</s>", "<extra_id_1>"]);
}

#[test]
fn templates_find_what_transformers_gives_them() {
    let cases = [
        ("{{ bos_token }}{{ messages[0].role.title() }}{{ eos_token }}", "<s>User</s>"),
        ("{{ pad_token is defined }}{{ image_token }}{{ call_token }}", "False<i><c>"),
        ("{{ tools is none }} {{ documents is none }} {{ enable_thinking is defined }}", "True True False"),
        ("{% if tools is iterable %}x{% else %}{{ add_generation_prompt }}{% endif %}", "True"),
        ("{{ strftime_now('%Y') | length }}", "4"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source).expect(source), expected, "{source}");
    }
}

#[test]
fn tools_documents_and_kwargs_reach_the_template() {
    let source = "{{ tools[0].name }} {{ documents[0]['title'] }} {{ enable_thinking }} {{ eos_token }}";
    let (tools, documents) = ([json!({"name": "f"})], [json!({"title": "t"})]);
    let kwargs = json!({"enable_thinking": false, "eos_token": "mine"});
    let messages = [ChatMessage::new("user", "a")];
    let request = RenderRequest {
        tools: Some(&tools),
        documents: Some(&documents),
        kwargs: kwargs.as_object(),
        ..RenderRequest::new(&messages, false)
    };
    assert_eq!(template(source).expect("sound").render(&request).expect("a prompt"), "f t False mine");
}

#[test]
fn a_switch_for_thinking_is_one_that_changes_the_prompt() {
    for (source, switch) in [
        ("{{ messages[0].content }}", false),
        ("{# enable_thinking #}{% if enable_thinking is defined %}x{% endif %}", false),
        ("{% if enable_thinking %}<think>{% endif %}", true),
        ("{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}", true),
    ] {
        assert_eq!(template(source).expect("sound").has_thinking_switch(), switch, "{source}");
    }
}

#[test]
fn a_template_for_tools_is_taken_where_there_are_tools() {
    let config = br#"{"chat_template": [{"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "tools"}]}"#;
    let template = ChatTemplate::from_files(Some(config), None).expect("sound").expect("a template");
    let plain = RenderRequest::new(&[], false);
    assert_eq!(template.render(&plain).expect("a prompt"), "plain");
    assert_eq!(template.render(&RenderRequest { tools: Some(&[]), ..plain }).expect("a prompt"), "tools");
}

#[test]
fn messages_keep_their_fields_in_order_and_lose_nulls() {
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"b": 1, "a": 2}}]});
    let rendered = template("{{ messages[0] }}").expect("sound").render(&RenderRequest::new(&[message(call)], false));
    assert_eq!(rendered.expect("a prompt"), "{'role': 'assistant', 'tool_calls': [{'function': {'b': 1, 'a': 2}}]}");
}

#[test]
fn what_was_thought_has_each_of_its_names() {
    for name in ["reasoning_content", "thinking", "reasoning"] {
        let said = message(json!({"role": "assistant", "content": "b", name: "a"}));
        let source = "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}";
        let rendered = template(source).expect("sound").render(&RenderRequest::new(&[said], false));
        assert_eq!(rendered.expect("a prompt"), "aa", "{name}");
    }
}

#[test]
fn parts_are_joined_where_the_template_reads_none_and_pictures_are_refused() {
    let said =
        [message(json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}))];
    let plain = template("{{ messages[0].content }}").expect("sound");
    assert_eq!(plain.render_text(&RenderRequest::new(&said, true)).expect("a prompt"), "ab");
    let reads = "{% for part in messages[0].content %}[{{ part.text }}]{% endfor %}";
    let parts = template(reads).expect("sound");
    assert_eq!(parts.render_text(&RenderRequest::new(&said, true)).expect("a prompt"), "[a][b]");
    let picture = [message(json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}))];
    let error = parts.render_text(&RenderRequest::new(&picture, true)).expect_err("a picture").to_string();
    assert!(error.contains("messages[0]") && error.contains("image_url"), "{error}");
}

#[test]
fn faults_are_told_with_their_file_and_line() {
    for (source, line, word) in [
        ("a\n{% if %}", "line 2", "syntax"),
        ("a\nb\n{{ raise_exception('roles must alternate') }}", "line 3", "roles must alternate"),
        ("a\n{{ messages.nothing.at.all }}", "line 2", "undefined"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
            "line 1",
            "the template",
        ),
    ] {
        let error = render(source).expect_err(source).to_string();
        assert!(error.contains("chat_template.jinja") && error.contains(line) && error.contains(word), "{error}");
    }
}

#[test]
fn calls_and_results_in_the_shape_of_openai_reach_the_template() {
    let call = |arguments: Value| {
        json!({ "role": "assistant", "content": null, "tool_calls": [
            { "id": "call_1", "type": "function", "function": { "name": "weather", "arguments": arguments } },
        ] })
    };
    let source = "{% for m in messages %}{% if m.tool_calls %}{{ m.content + '<' }}{% for call in m.tool_calls %}{{ call.function.name }}\
        {% for key, value in call.function.arguments | items %} {{ key }}={{ value | tojson }}{% endfor %}{% endfor %}>\
        {% else %}{{ m.tool_call_id }}: {{ m.content }}{% endif %}{% endfor %}";
    let template = template(source).expect("sound");
    let prompt = |arguments: Value| {
        let result = json!({ "role": "tool", "tool_call_id": "call_1", "content": "12 °C" });
        let messages =
            ChatMessage::list_from_openai(vec![call(arguments), result]).map_err(|error| error.to_string())?;
        template.render(&RenderRequest::new(&messages, false)).map_err(|error| error.to_string())
    };
    for arguments in [json!("{\"city\": \"Bern\", \"days\": [1]}"), json!({ "city": "Bern", "days": [1] })] {
        assert_eq!(prompt(arguments), Ok("<weather city=\"Bern\" days=[1]>call_1: 12 °C".into()));
    }
    assert_eq!(prompt(json!("")), Ok("<weather>call_1: 12 °C".into()));
    for arguments in [json!("{\"city\": "), json!("[1]"), json!(3)] {
        let error = prompt(arguments).expect_err("no object");
        assert!(error.contains("messages[0].tool_calls[0]") && error.contains("arguments"), "{error}");
    }
}

#[test]
fn messages_that_are_none_are_refused_by_their_number() {
    for (message, word) in [
        (json!("Hi"), "role"),
        (json!({ "content": "Hi" }), "role"),
        (json!({ "role": "narrator", "content": "Hi" }), "narrator"),
        (json!({ "role": "user" }), "content"),
        (json!({ "role": "user", "content": [{ "type": "image_url" }] }), "parts"),
        (json!({ "role": "assistant", "tool_calls": [5] }), "tool_calls[0]"),
        (json!({ "role": "assistant", "tool_calls": [{ "function": 5 }] }), "name"),
    ] {
        let list = vec![json!({ "role": "developer", "content": "Hi" }), message];
        let error = ChatMessage::list_from_openai(list).expect_err("no message").to_string();
        assert!(error.contains("messages[1]") && error.contains(word), "{error}");
    }
}
