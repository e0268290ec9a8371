//! `cargo xtask test`: the quick tier; with `--all`, also the long one.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::drivers::{self, Driver};
use crate::f16_browser::F16Browser;
use crate::setup::{self, Tools};
use crate::tally::Tally;
use crate::{isa, pretrained, shaders, shell, templates, web};

/// Install what is missing and run the tests.
#[derive(clap::Args)]
pub struct Arguments {
    /// Also the long tier: a checkpoint of gigabytes in a browser, the package in Firefox, every question to the demo model in every format, minutes of fuzzing, a minute of 64 streams, other people's routers.
    #[arg(long)]
    all: bool,
}

/// The test program for kernels and whole models on a GPU.
const GPU: [&str; 2] = ["--test", "gpu"];

/// The GPU tests of what a driver can get wrong (`tests/gpu/every_driver.rs`): on every driver. The others are on one.
const EVERY_DRIVER: &str = "every_driver::";

/// The part of them that is left to `--all` on the slowest driver, SwiftShader: whole models. Ops are held to their references
/// on every driver, and Chromium and Node.js run whole models on SwiftShader.
const WHOLE_MODELS: &str = "every_kind_of_block";

/// The library's other tests of its public interface.
const LIBRARY: [&str; 2] = ["--test", "library"];

/// The npm package in a browser, and in Node.js.
const ENGINE: &str = "web/tests/engine.mjs";
const STORE: &str = "web/tests/store.mjs";
const GGUF: &str = "web/tests/gguf.mjs";
const LORA: &str = "web/tests/lora.mjs";
const POOLING: &str = "web/tests/pooling.mjs";
const SESSIONS: &str = "web/tests/sessions.mjs";
const NODE: &str = "web/tests/node.mjs";
const GOLDENS: &str = "web/tests/families.mjs";
const F16: &str = "web/tests/f16.mjs";
const HEAP: &str = "web/tests/heap.mjs";

/// The server as its clients know it.
const SERVE: &str = "web/tests/serve.mjs";

/// The same for Python's clients, by its OpenAPI description, and for those who mean no good.
const CLIENTS: &str = "server/clients";

/// The routers of the long tier, apart from the packages of the other tests, and NVIDIA Dynamo of the version that the worker was
/// tried with (`integrations/dynamo/README.md`).
const ROUTERS_PYTHON: &str = "target/python-routers";
const DYNAMO: [&str; 2] = ["ai-dynamo==1.6.1", "ai-dynamo-runtime==1.6.1"];

/// The package over the server: engines in Node.js and in a browser without WebGPU, and Vercel's AI SDK.
const REMOTE: &str = "web/tests/remote.mjs";
const FALLBACK: &str = "web/tests/fallback.mjs";
const AI_SDK: &str = "web/tests/ai-sdk.mjs";

/// The page, and the examples over the package as npm packs it.
const PAGE: &str = "web/tests/page.mjs";
const CONVERSATIONS: &str = "web/tests/conversations.mjs";
const EXAMPLES: &str = "web/tests/examples.mjs";
const REACT: &str = "web/tests/react.mjs";

/// Seconds of fuzzing in the long tier.
const FUZZ_SECONDS: &str = "240";
/// Random acts for each kind of memory.
const SESSION_STEPS: &str = "1500";

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut report = Report::new(arguments.all);
    let began = Instant::now();
    let Tools { drivers: gpus, browser, node } = setup::tools()?;
    report.line("ok", "drivers, browsers and packages of npm", began);
    // Tests that have a long form ask for it.
    let tier = |mut tests: Command| {
        if arguments.all {
            tests.env("SELVEDGE_LONG", "1");
        }
        tests
    };
    let first = gpus.first();
    let on = first.map_or("the system's adapter", |driver| driver.name);
    report.build("the workspace and its tests", || shell::run(&mut cargo(&["--no-run"])));
    report.stage(&format!("the workspace, GPU tests on {on}"), |tally| {
        count(&mut tier(cargo_test(&[], &[], first)), tally)
    });
    // Its linking takes one core for minutes: beside the tests up to those that need it.
    let package = std::thread::spawn(web::package);
    for (index, driver) in gpus.iter().enumerate().skip(1) {
        let names: &[&str] = match () {
            () if arguments.all => &[],
            () if index + 1 == gpus.len() => &[EVERY_DRIVER, "--skip", WHOLE_MODELS],
            () => &[EVERY_DRIVER],
        };
        report.stage(&format!("GPU tests on {}", driver.name), |tally| {
            let done = count(&mut tier(cargo_test(&GPU, names, Some(driver))), tally);
            tally.left_to("--all");
            done
        });
    }
    report.stage("the server and its clients", |tally| {
        let clients_of_node = count(&mut node_test(&node, SERVE), tally);
        let python = pretrained::python(pretrained::PYTHON, &["-r", &format!("{CLIENTS}/requirements.txt")])?;
        // What fails in the one hides nothing of the other.
        count(&mut tier(shell::program(&python, &["-m", "pytest", CLIENTS])), tally).and(clients_of_node)
    });
    report.long("other people's routers before the server", |tally| {
        pretrained::python(ROUTERS_PYTHON, &["-r", &format!("{CLIENTS}/requirements-routers.txt")])?;
        // One of its requirements needs another index on some Pythons; what is used of them is in the file above.
        let python = pretrained::python(ROUTERS_PYTHON, &[&["--no-deps"], &DYNAMO[..]].concat())?;
        count(&mut shell::program(&python, &["-m", "pytest", &format!("{CLIENTS}/test_routers.py")]), tally)
    });
    report.stage("shaders through Tint", |tally| {
        count(node_test(&node, "web/tests/tint.mjs").env("SHADERS", shaders::write()?), tally)
    });
    report.stage("shaders through the compiler of AMD's cards", isa::test);
    report.build("the npm package, after the stages beside it", || {
        package.join().unwrap_or_else(|_| bail!("its thread has panicked"))
    });
    report.stage("the package, the browser's store and the page in Chromium", |tally| {
        web::page()?;
        let tests = node_tests(&node, &[ENGINE, STORE, GGUF, LORA, POOLING, SESSIONS, PAGE, CONVERSATIONS], 15);
        count(tier(tests).env("CHROMIUM", &browser), tally)
    });
    report.stage("the package over the server, and Vercel's AI SDK", |tally| {
        let mut tests = node_tests(&node, &[FALLBACK, AI_SDK, REMOTE], 15);
        count(tests.env("CHROMIUM", &browser), tally)
    });
    report.stage("the web examples", |tally| count(node_test(&node, EXAMPLES).env("CHROMIUM", &browser), tally));
    report.stage("the package in Node.js", |tally| {
        let mut node = node_test(&node, NODE);
        // Dawn does not take the oldest driver; the last compiles quickly.
        if let Some(driver) = gpus.last() {
            driver.choose(&mut node);
        }
        count(&mut node, tally)
    });
    report.long("every family in Chromium", |tally| count(node_test(&node, GOLDENS).env("CHROMIUM", &browser), tally));
    report.long("the package in Chromium with shader-f16", |tally| {
        let chromium = F16Browser::new(&gpus)?;
        for tests in [F16, ENGINE, GOLDENS] {
            let mut node = node_test(&node, tests);
            chromium.choose(&mut node);
            count(&mut node, tally)?;
        }
        Ok(())
    });
    report.long("the heap while loading", |tally| {
        let folder = shell::root().join("target/large");
        if !folder.join("config.json").is_file() {
            let example = ["run", "--release", "--example", "random_checkpoint", "--", "hymba-1.5b"];
            shell::run(shell::cargo(&example).arg(&folder))?;
        }
        // SwiftShader takes a quarter of an hour for a token.
        let mut node = node_tests(&node, &[HEAP], 60);
        F16Browser::new(&gpus)?.choose(&mut node);
        count(node.env("SELVEDGE_LARGE", folder), tally)
    });
    report.long("the web example that needs the registry", |tally| {
        count(node_test(&node, REACT).env("CHROMIUM", &browser), tally)
    });
    report.long("the package in Firefox", |tally| {
        let mut node = node_test(&node, ENGINE);
        if let Some(driver) = first {
            driver.choose(&mut node);
        }
        count(node.env("FIREFOX", drivers::firefox()?), tally)
    });
    report.long("all questions to the demo model", |tally| {
        let mut questions = cargo_test(&LIBRARY, &["demo_model::", "quantisation::"], first);
        count(questions.env("SELVEDGE_DEMO_QUESTIONS", "all"), tally)
    });
    report.long("checkpoints as transformers writes them", |tally| {
        let folder = pretrained::make()?;
        let mut goldens = cargo_test(&GPU, &["further_goldens"], first);
        count(goldens.env("SELVEDGE_GOLDENS", folder).env("SELVEDGE_LONG", "1"), tally)
    });
    report.long("published chat templates against jinja2", |tally| {
        let renderings = templates::make()?;
        count(cargo_test(&LIBRARY, &["templates::"], first).env("SELVEDGE_TEMPLATES", renderings), tally)
    });
    report.long("thousands of random acts on sequences", |tally| {
        let mut acts = cargo_test(&LIBRARY, &["sessions::"], first);
        count(acts.env("SELVEDGE_SESSION_STEPS", SESSION_STEPS), tally)
    });
    report.long("long fuzzing", |tally| {
        let mut fuzz = cargo_test(&LIBRARY, &["fuzz_checkpoint::"], first);
        count(fuzz.env("SELVEDGE_FUZZ_SECONDS", FUZZ_SECONDS), tally)
    });
    report.close()
}

/// `cargo test` of the workspace. Everything is built once.
fn cargo(arguments: &[&str]) -> Command {
    let mut command = shell::workspace("test");
    command.arg("--no-fail-fast").args(arguments);
    command
}

/// The same of some targets, on a driver; only tests whose names hold one of `names`, where there are any.
fn cargo_test(targets: &[&str], names: &[&str], driver: Option<&Driver>) -> Command {
    let mut command = cargo(targets);
    // What passing tests print is how far they were from what they are held to.
    command.args(["--", "--show-output"]).args(names);
    if let Some(driver) = driver {
        driver.choose(&mut command);
    }
    command
}

/// A file of tests for node's runner.
fn node_test(node: &Path, file: &str) -> Command {
    node_tests(node, &[file], 15)
}

/// The same of several files, two at a time as each waits for its browser more than it works, with so many minutes for a
/// test.
fn node_tests(node: &Path, files: &[&str], minutes: u32) -> Command {
    let mut command = Command::new(node);
    let limit = format!("--test-timeout={}", minutes * 60_000);
    command.args(["--test", "--test-reporter=spec", "--test-concurrency=2", &limit]).args(files);
    command.current_dir(shell::root());
    command
}

/// Runs tests and counts them; none at all is an error.
fn count(command: &mut Command, tally: &mut Tally) -> Result<()> {
    shell::watch(command, |line| tally.read(line))?;
    if tally.passed() == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// Results of the stages.
struct Report {
    /// True if the long tier runs too.
    all: bool,
    lines: Vec<String>,
    total: Tally,
    began: Instant,
}

impl Report {
    fn new(all: bool) -> Self {
        Self { all, lines: vec![], total: Tally::default(), began: Instant::now() }
    }

    /// Makes what the stages after it test.
    fn build(&mut self, name: &str, make: impl FnOnce() -> Result<()>) {
        eprintln!("\n=== {name}");
        let began = Instant::now();
        let done = make();
        if let Err(error) = &done {
            eprintln!("=== {name} FAILED: {error:#}");
            self.total.failed += 1;
        }
        self.line(verdict(&done), name, began);
    }

    /// Runs a stage. A failed one is reported at once and again at the end; the others still run.
    fn stage(&mut self, name: &str, run: impl FnOnce(&mut Tally) -> Result<()>) {
        eprintln!("\n=== {name}");
        let began = Instant::now();
        let mut tally = Tally::default();
        let done = run(&mut tally);
        if let Err(error) = &done {
            eprintln!("=== {name} FAILED: {error:#}");
            // A stage that could not even run its tests counts as one that failed.
            tally.failed = tally.failed.max(1);
        }
        self.line(verdict(&done), &format!("{tally}  {name}"), began);
        self.lines.extend(tally.failures.iter().map(|name| format!("failed   {name}")));
        for (reason, count) in &tally.reasons {
            self.lines.push(format!("skipped  {count} x {reason}"));
        }
        self.total += &tally;
    }

    /// A stage of the long tier.
    fn long(&mut self, name: &str, run: impl FnOnce(&mut Tally) -> Result<()>) {
        if self.all {
            self.stage(name, run);
        } else {
            self.lines.push(format!("not run  {name}  (--all)"));
        }
    }

    fn line(&mut self, verdict: &str, what: &str, began: Instant) {
        self.lines.push(format!("{verdict:7}  {what}  ({} s)", began.elapsed().as_secs()));
    }

    fn close(self) -> Result<()> {
        println!();
        for line in &self.lines {
            println!("{line}");
        }
        println!("{:.1} minutes in all", self.began.elapsed().as_secs_f64() / 60.0);
        println!("{}", self.total);
        if self.total.failed > 0 {
            bail!("{} failed", self.total.failed);
        }
        Ok(())
    }
}

fn verdict(done: &Result<()>) -> &'static str {
    if done.is_ok() { "ok" } else { "FAILED" }
}
