//! The binary as its users meet it: what it prints, its exit codes, what it says about bad input.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{Golden, Worst, folder, repository};
use serde_json::Value;

/// Exact greedy text is asked only where the best token leads the second by more than rounding can take away.
const CLEAR_GAP: f64 = 0.5;

fn demo() -> PathBuf {
    repository().join("assets/demo")
}

fn selvedge(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selvedge")).args(arguments).output().expect("the binary runs")
}

/// `selvedge generate MODEL --device cpu ...`
fn generate(model: &Path, arguments: &[&str]) -> Output {
    let first = [OsStr::new("generate"), model.as_os_str()];
    selvedge(first.into_iter().chain(["--device", "cpu"].iter().chain(arguments).map(OsStr::new)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).expect("JSON")
}

/// A failure's message: exit code 1, a last line that begins with `error:`, nothing on stdout.
fn failure(output: &Output) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let error = message.lines().last().and_then(|line| line.strip_prefix("error: "));
    assert!(!message.contains("panicked"), "{message}");
    error.unwrap_or_else(|| panic!("no error in {message}")).to_owned()
}

/// Tokens and text of the demo model, as the reference computed them from f32 weights.
struct Said {
    prompt: String,
    ids: Vec<u64>,
    tokens: Vec<u64>,
    text: String,
}

fn said() -> Vec<Said> {
    let file = std::fs::read_to_string(demo().join("greedy.json")).expect("the demo's texts");
    let cases: Vec<Value> = serde_json::from_str(&file).expect("JSON");
    let clear = cases.iter().filter(|case| case["min_gap"].as_f64().is_some_and(|gap| gap > CLEAR_GAP));
    let numbers = |list: &Value| list.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id")).collect();
    let string = |value: &Value| value.as_str().expect("a string").to_owned();
    let said = clear.map(|case| Said {
        prompt: string(&case["prompt"]),
        ids: numbers(&case["ids"]),
        tokens: numbers(&case["greedy"]),
        text: string(&case["text"]),
    });
    said.collect()
}

fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn the_demo_model_says_what_the_reference_says() {
    let said = said();
    assert!(said.len() >= 10, "{} texts are clear enough", said.len());
    for Said { ids, tokens, text, .. } in &said {
        let result = json(&generate(&demo(), &["--tokens", &list(ids), "--json"]));
        assert_eq!(result["text"], text.as_str());
        assert_eq!(result["tokens"], Value::from(tokens.clone()));
        assert_eq!(result["finish_reason"], "stop");
        assert_eq!(result["prompt_tokens"], ids.len());
    }
}

#[test]
fn text_goes_in_and_text_comes_out() {
    for Said { prompt, text, .. } in said().iter().take(3) {
        assert_eq!(stdout(&generate(&demo(), &["--prompt", prompt])), format!("{text}\n"));
    }
}

#[test]
fn a_seed_gives_its_text_again_and_nonsense_is_refused() {
    let say = |more: &[&str]| {
        let output =
            generate(&demo(), &[&["--prompt", "One sunny morning", "--max-tokens", "24", "--json"], more].concat());
        json(&output)
    };
    let first = say(&["--temperature", "1.5", "--seed", "11"]);
    assert_eq!(first["seed"], 11);
    assert_eq!(say(&["--temperature", "1.5", "--seed", "11"])["tokens"], first["tokens"]);
    assert_ne!(say(&["--temperature", "1.5", "--seed", "12"])["tokens"], first["tokens"]);
    // A seed that nobody named can be named the next time.
    let free = say(&["--top-p", "0.9"]);
    let seed = free["seed"].as_u64().expect("a seed").to_string();
    assert_eq!(say(&["--top-p", "0.9", "--seed", &seed])["tokens"], free["tokens"]);
    assert!(say(&[])["seed"].is_null(), "nothing is drawn");

    for (wrong, word) in [
        (["--temperature", "-1"], "temperature of -1"),
        (["--top-p", "1.5"], "top-p of 1.5"),
        (["--min-p", "1"], "min-p of 1"),
        (["--repetition-penalty", "0"], "repetition penalty of 0"),
        (["--frequency-penalty", "NaN"], "frequency penalty of NaN"),
    ] {
        let output = generate(&demo(), &[&["--prompt", "Hi"], &wrong[..]].concat());
        let err = text(&output.stderr);
        assert!(output.status.code() == Some(1) && err.contains(word), "{wrong:?}: {err}");
    }
}

#[test]
fn json_has_the_keys_that_scripts_rely_on() {
    let output = generate(&demo(), &["--prompt", "One sunny morning", "--max-tokens", "4", "--json"]);
    let result = json(&output);
    let mut keys: Vec<&str> = result.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["cached_tokens", "finish_reason", "prompt_tokens", "seed", "speculation", "text", "timings", "tokens"]
    );
    assert_eq!(result["finish_reason"], "length");
    assert_eq!(result["tokens"].as_array().map(Vec::len), Some(4));
    for time in ["load_s", "prompt_s", "generate_s"] {
        assert!(result["timings"][time].as_f64().is_some_and(|s| s > 0.0), "{time}");
    }
    assert_eq!(text(&output.stdout).lines().count(), 1);

    // The same in plain: stdout holds the text and nothing else.
    let plain = stdout(&generate(&demo(), &["--prompt", "One sunny morning", "--max-tokens", "4"]));
    assert_eq!(plain, format!("{}\n", result["text"].as_str().expect("text")));

    // A text may begin with anything.
    let dashed = json(&generate(&demo(), &["--prompt", "-- Hi", "--max-tokens", "1", "--json"]));
    assert_eq!(dashed["tokens"].as_array().map(Vec::len), Some(1));

    let full = json(&generate(&folder("falcon_h1"), &["--tokens", "5", "--context", "64", "--json"]));
    assert_eq!(full["finish_reason"], "context");
    assert_eq!(full["text"], Value::Null, "without a tokenizer there is no text");
    assert_eq!(full["tokens"].as_array().map(Vec::len), Some(64));
}

#[test]
fn bench_measures_at_depths_that_the_model_was_not_made_for() {
    let bench = |depth: &str| {
        let (model, device) = (demo(), ["--device", "cpu", "--random-weights", "--json"]);
        let counts = ["--prompt", "3", "--generate", "2", "--depth", depth];
        selvedge(
            [OsStr::new("bench"), model.as_os_str()].into_iter().chain(device.iter().chain(&counts).map(OsStr::new)),
        )
    };
    // The demo model was made for 2048 tokens.
    let results = json(&bench("0,2048"));
    let depths: Vec<u64> = results.as_array().expect("a list").iter().filter_map(|r| r["depth"].as_u64()).collect();
    assert_eq!(depths, [0, 2048]);
    for result in results.as_array().expect("a list") {
        assert!(result["prompt_tps"].as_f64().is_some_and(|rate| rate > 0.0), "{result}");
        assert!(result["generate_tps"].as_f64().is_some_and(|rate| rate > 0.0), "{result}");
    }
    assert!(results[1]["bytes_per_token"].as_u64() > results[0]["bytes_per_token"].as_u64(), "{results}");
    // Further than any machine goes.
    let error = failure(&bench(&usize::MAX.to_string()));
    assert!(error.contains("context"), "{error}");
}

#[test]
fn logits_are_written_as_safetensors() {
    let case = folder("hymba/caseA");
    let golden = Golden::open("hymba/caseA");
    let ids: Vec<u64> = golden.ids("p0.input_ids").into_iter().map(u64::from).collect();
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("ids.txt");
    std::fs::write(&file, format!("[{}]\n", list(&ids).replace(',', ", "))).expect("a written file");
    let out = place.path().join("logits.safetensors");
    let (ids, file) = (list(&ids), file.to_string_lossy());
    let (case, path) = (case.to_string_lossy(), out.to_string_lossy());
    for arguments in [
        &["--tokens", &ids][..],
        &["--tokens-file", &file, "--chunk", "7"],
        &["--tokens", &ids, "--prefill", "10", "--chunk", "3"],
        &["--tokens", &ids, "--prefill", "0"],
    ] {
        let first = ["logits", &case, "--device", "cpu", "--out", &path];
        assert_eq!(stdout(&selvedge(first.iter().chain(arguments))), "");
        let bytes = std::fs::read(&out).expect("a written file");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(tensors.names(), ["logits"]);
        let tensor = tensors.tensor("logits").expect("the tensor");
        assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, &[20, 97][..]));
        let numbers: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let mut worst = Worst::new(arguments[2..].join(" "), 5e-4);
        worst.compare("logits", &numbers, &golden.get("p0.logits").data);
        worst.finish();
        std::fs::remove_file(&out).expect("nothing but the file was written");
    }
    assert_eq!(std::fs::read_dir(place.path()).expect("a folder").count(), 1, "only the file of ids is left");
}

#[test]
fn a_reward_model_judges_and_writes_nothing() {
    let (judge, golden) = (folder("nemotron_reward"), Golden::open("nemotron_reward"));
    let command = |name: &str, model: &Path, more: &[&str]| {
        let first = [OsStr::new(name), model.as_os_str(), OsStr::new("--device"), OsStr::new("cpu")];
        selvedge(first.into_iter().chain(more.iter().map(OsStr::new)))
    };
    let ids: Vec<u64> = golden.ids("input_ids.1").into_iter().map(u64::from).collect();
    let wanted = &golden.get("scores.1").data;
    let labels = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"];

    let result = json(&command("score", &judge, &["--tokens", &list(&ids), "--json"]));
    assert_eq!(result["prompt_tokens"], ids.len());
    let scores = result["scores"].as_array().expect("a list");
    assert_eq!(scores.iter().map(|score| score["label"].as_str().expect("a name")).collect::<Vec<_>>(), labels);
    let numbers: Vec<f32> = scores.iter().map(|score| score["score"].as_f64().expect("a number") as f32).collect();
    let mut worst = Worst::new("selvedge score", 3e-4);
    worst.compare("text 1", &numbers, wanted);
    worst.finish();

    let plain = stdout(&command("score", &judge, &["--tokens", &list(&ids)]));
    assert_eq!(plain.lines().count(), labels.len());
    for (line, (label, number)) in plain.lines().zip(labels.iter().zip(&numbers)) {
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [label.to_string(), format!("{number:.5}")]);
    }
    let shown = stdout(&selvedge([OsStr::new("inspect"), judge.as_os_str()]));
    assert!(shown.contains("classification head, labels: helpfulness, correctness"), "{shown}");

    // Each kind of model is refused where the other is meant, and told where to go.
    let out = ["--tokens", "5", "--out", "no/such/file"];
    for (name, more) in [("generate", &out[..2]), ("logits", &out)] {
        let error = failure(&command(name, &judge, more));
        assert!(error.contains("selvedge score") && error.contains("verbosity"), "{error}");
    }
    let error = failure(&command("score", &folder("falcon_h1"), &["--tokens", "5"]));
    assert!(error.contains("selvedge generate"), "{error}");
    let error = failure(&command("score", &judge, &["--prompt", "Hi"]));
    assert!(error.contains("tokenizer.json"), "{error}");
    assert_eq!(command("score", &judge, &[]).status.code(), Some(2), "neither a text nor tokens");
}

#[test]
fn devices_are_listed() {
    let plain = stdout(&selvedge(["devices"]));
    assert!(plain.lines().any(|line| line.starts_with("cpu ")), "{plain}");
    let devices = json(&selvedge(["devices", "--json"]));
    let devices = devices.as_array().expect("a list");
    assert_eq!(devices.len(), plain.lines().count());
    for device in devices {
        for key in ["backend", "adapter", "driver", "software", "f16", "subgroups", "max_binding"] {
            assert!(!device[key].is_null(), "{device} has no {key}");
        }
    }
}

#[test]
fn bad_input_is_named() {
    let demo = demo();
    let without_tokenizer = folder("hymba/caseA");
    let long = vec!["5"; 50].join(",");
    let cases: &[(&Path, &[&str], &[&str])] = &[
        (&demo, &["--tokens", "5,1023"], &["1023", "vocabulary"]),
        (&demo, &["--tokens", "4294967295"], &["4294967295"]),
        (&demo, &["--tokens", &long, "--context", "40"], &["50 tokens", "40"]),
        (&demo, &["--prompt", "Hi", "--context", "99999"], &["99999", "2048"]),
        (&demo, &["--prompt", "Hi", "--device", "cuda"], &["cuda"]),
        (&demo, &["--prompt", "Hi", "--device", "gpu", "--adapter", "no such GPU"], &["no gpu device"]),
        (&without_tokenizer, &["--prompt", "Hi"], &["tokenizer.json"]),
        (Path::new("no/such/folder"), &["--prompt", "Hi"], &["no/such/folder"]),
        (Path::new("hymba-1.5b"), &["--prompt", "Hi"], &["`hymba-1.5b` is a preset", "--random-weights"]),
    ];
    for (model, arguments, words) in cases {
        // A later --device replaces the one before.
        let output = if arguments.contains(&"--device") {
            selvedge([OsStr::new("generate"), model.as_os_str()].into_iter().chain(arguments.iter().map(OsStr::new)))
        } else {
            generate(model, arguments)
        };
        let error = failure(&output);
        assert!(words.iter().all(|word| error.contains(word)), "{arguments:?}: {error}");
    }

    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("ids.txt");
    std::fs::write(&file, "1 2 three").expect("a written file");
    let (demo, file) = (demo.to_string_lossy(), file.to_string_lossy());
    let out = place.path().join("out.safetensors");
    let logits = |arguments: &[&str]| {
        let out = out.to_string_lossy();
        failure(&selvedge(["logits", &demo, "--device", "cpu", "--out", &out].iter().chain(arguments)))
    };
    let error = logits(&["--tokens-file", &file]);
    assert!(error.contains("three") && error.contains("ids.txt"), "{error}");
    let error = logits(&["--tokens-file", "no/such/file"]);
    assert!(error.contains("no/such/file"), "{error}");
    let error = logits(&["--tokens", "5,6,7777"]);
    assert!(error.contains("7777"), "{error}");
    assert!(!out.exists(), "a failure leaves no file");
}

#[cfg(unix)]
#[test]
fn a_prompt_that_is_not_utf_8_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let demo = demo();
    let arguments = [OsStr::new("generate"), demo.as_os_str(), OsStr::new("--prompt"), OsStr::from_bytes(b"a \xff b")];
    let error = failure(&selvedge(arguments));
    assert!(error.contains("UTF-8") && error.contains("index 2"), "{error}");
}

#[test]
fn misuse_exits_with_2() {
    let demo = demo();
    let demo = demo.to_str().expect("a plain path");
    for arguments in [
        &["weave"][..],
        &["generate", demo],
        &["generate", demo, "--prompt", "Hi", "--tokens", "1"],
        &["generate", demo, "--tokens", "1,x"],
        &["generate", demo, "--tokens", "-1"],
        &["generate", demo, "--prompt", "Hi", "--device", "abacus"],
        &["generate", demo, "--prompt", "Hi", "--device", "cpu", "--adapter", "GeForce"],
        &["generate", demo, "--prompt", "Hi", "--max-tokens", "many"],
        &["generate", demo, "--prompt", "Hi", "--context", "0"],
        &["logits", demo, "--tokens", "1"],
        &["logits", demo, "--tokens", "1", "--out", "x", "--chunk", "0"],
    ] {
        let output = selvedge(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(stdout(&selvedge(["--version"])).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_has_each_option_under_its_heading() {
    for (command, other) in [("chat", "--thinking"), ("chat", "--verbose"), ("generate", "--json")] {
        let help = stdout(&selvedge([command, "--help"]));
        let (options, sampling) = help.split_once("Sampling:").expect("a heading");
        assert!(options.contains(&format!("  {other}")) && !sampling.contains(other), "{command} {other}: {help}");
        assert!(sampling.contains("--top-k") && !options.contains("--top-k"), "{command}: {help}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_generation_and_keeps_what_there_is() {
    use std::io::Read;
    // This text goes on for 1211 tokens.
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("generate").arg(folder("falcon_h1"));
    command.args(["--device", "cpu", "--tokens", "11", "--max-tokens", "100000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut pipe = child.stdout.take().expect("a pipe");
    let mut printed = vec![0; 1];
    pipe.read_exact(&mut printed).expect("a first token");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    pipe.read_to_end(&mut printed).expect("the rest");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    let tokens = text(&printed).trim_end().split(',').count();
    assert!(printed.ends_with(b"\n") && tokens < 1211, "{tokens} tokens");
}

#[test]
fn a_text_keeps_to_a_schema_an_expression_or_a_grammar() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let schema = r#"{"type": "object", "properties": {"age": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["age"], "additionalProperties": false}"#;
    let (schema, broken) = (file("schema.json", schema), file("broken.json", "{"));
    let lark = file("grammar.lark", "start: \"<\" start \">\" | /[a-z]{1,3}/");
    let bound = |more: &[&str]| generate(&demo(), &[&["--prompt", "Mia is"], more].concat());
    let person: Value = serde_json::from_str(stdout(&bound(&["--json-schema", &schema])).trim()).expect("JSON");
    assert!((1..=99).contains(&person["age"].as_u64().expect("a number")), "{person}");
    let digits = stdout(&bound(&["--regex", "[0-9]{4}", "--seed", "3"]));
    assert!(digits.trim().len() == 4 && digits.trim().bytes().all(|byte| byte.is_ascii_digit()), "{digits}");
    let nested = stdout(&bound(&["--lark", &lark, "--max-tokens", "60"]));
    let inner = nested.trim().trim_start_matches('<').trim_end_matches('>');
    assert!((1..=3).contains(&inner.len()) && inner.bytes().all(|byte| byte.is_ascii_lowercase()), "{nested}");
    let misused = bound(&["--json-schema", &broken]);
    assert_eq!((misused.status.code(), text(&misused.stderr).contains("broken.json")), (Some(2), true));
    assert!(failure(&bound(&["--regex", "("])).contains("the grammar cannot be used"));
    assert_eq!(bound(&["--regex", "a", "--lark", &lark]).status.code(), Some(2), "one of them");
}
