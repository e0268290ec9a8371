//! `selvedge bench`: speed of a model on this machine, reading a prompt (pp) and generating (tg), with the kernels,
//! bytes and objects of each token.

mod state;

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;

use crate::args::model::ModelArgs;
use crate::args::speculate::SpeculateArgs;
use crate::error::CommandError;
use crate::terminal::{self, status};
use selvedge::backend::{FormsFrom, KernelTime, Outputs, Step, Tokens};
use selvedge::generate::{GenerateOptions, Generation, Speculated};
use selvedge::runtime::{Cancel, Engine, PREFILL_ROWS};
use selvedge::state::SlotId;

/// Measure the speed of a model: reading a prompt, and generating tokens.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Use random weights: MODEL is a folder with a config.json, or a preset
    #[arg(long)]
    random_weights: bool,
    /// Tokens of the prompt to read
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens to generate, one at a time
    #[arg(long, value_name = "N", default_value_t = 128)]
    generate: usize,
    /// Tokens that each sequence holds already; several values for several measurements
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [0])]
    depth: Vec<usize>,
    /// Sequences that are generated at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    #[command(flatten)]
    speculate: SpeculateArgs,
    /// Measure what keeping the state of the prompt costs, beside reading it again
    #[arg(long, conflicts_with_all = ["generate", "depth", "batch"])]
    state: bool,
    /// Time every kernel of a GPU by its own clock; the rates are then lower
    #[arg(long, conflicts_with = "state")]
    profile: bool,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Measurement {
    model: String,
    backend: &'static str,
    adapter: String,
    /// Of the kernels that have several, as they were chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    forms: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forms_from: Option<FormsFrom>,
    weights: String,
    batch: usize,
    depth: usize,
    prompt_tokens: usize,
    prompt_tps: f64,
    generate_tokens: usize,
    generate_tps: f64,
    dispatches_per_token: f64,
    /// Weights and state that a decode step reads, computed from their sizes.
    bytes_per_token: u64,
    objects_per_token: f64,
    /// With `--speculate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    speculation: Option<Speculated>,
    /// With `--profile`: the longest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelTime>,
}

impl Args {
    pub(crate) fn run(mut self) -> Result<ExitCode, CommandError> {
        self.model.load.profile = self.profile;
        self.model.load.speculate = self.speculate.drafts();
        if self.model.load.speculate > 0 && (self.batch > 1 || self.state) {
            return Err(CommandError::Misuse(
                "--speculate drafts for one sequence, without --batch and --state".into(),
            ));
        }
        let deepest = self.depth.iter().max().copied().unwrap_or(0);
        let longest = [self.prompt, self.generate, 8].into_iter().fold(deepest, usize::saturating_add);
        let (longest, batch) = if self.state { (longest + 1024, 2) } else { (longest, self.batch as usize) };
        let mut engine = pollster::block_on(async {
            if self.random_weights {
                self.model.load_random(batch, longest).await
            } else {
                self.model.load_slots(batch).await
            }
        })?;
        if self.state {
            terminal::print(&pollster::block_on(state::measure(&mut engine, self.prompt, self.json))?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut results = vec![];
        for &depth in &self.depth {
            status!("measuring at depth {depth} ...");
            results.push(pollster::block_on(self.measure(&mut engine, depth))?);
        }
        terminal::print(&if self.json { terminal::json(&results)? } else { table(&results) })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn measure(&self, engine: &mut Engine, depth: usize) -> Result<Measurement, CommandError> {
        // Compiles what will run and wakes the device.
        self.run_once(engine, depth, self.prompt.min(PREFILL_ROWS), 4).await?;
        engine.kernel_times().await?;
        let measured = self.run_once(engine, depth, self.prompt, self.generate).await?;
        let kernels = engine.kernel_times().await?;
        let (batch, steps) = (self.batch as usize, measured.generated.max(1) as f64);
        let info = engine.info();
        Ok(Measurement {
            model: self.model.name(),
            backend: info.kind.name(),
            adapter: info.adapter.clone(),
            forms: info.forms.clone(),
            forms_from: info.forms_from,
            weights: self.model.weights_name(),
            batch,
            depth,
            prompt_tokens: self.prompt,
            prompt_tps: self.prompt as f64 / measured.prompt_s,
            generate_tokens: measured.generated * batch,
            generate_tps: (measured.generated * batch) as f64 / measured.generate_s,
            dispatches_per_token: measured.dispatches as f64 / steps,
            bytes_per_token: engine.bytes_per_step(batch, depth + self.prompt),
            objects_per_token: measured.objects as f64 / steps,
            speculation: measured.speculation,
            kernels,
        })
    }

    /// Reads a prompt in one sequence, then writes in all of them, from `depth` on.
    async fn run_once(
        &self,
        engine: &mut Engine,
        depth: usize,
        prompt: usize,
        generate: usize,
    ) -> Result<Measured, CommandError> {
        let slots: Vec<SlotId> = (0..self.batch).map(|_| engine.open()).collect::<Result<_, _>>()?;
        for &slot in &slots {
            engine.skip(slot, depth)?;
        }
        let words = engine.model().vocabulary as u32;
        let ids: Vec<u32> = (0..prompt.max(1) as u32).map(|i| i * 7919 % words).collect();
        if engine.most_drafts() > 0 {
            return speculate(engine, slots[0], &ids, generate).await;
        }
        let started = Instant::now();
        for &slot in &slots {
            // All sequences need a token to go on from; only the first reads the whole prompt.
            let ids = if slot == slots[0] { &ids[..] } else { &ids[..1] };
            if let Some(step) = engine.prefill(slot, ids, PREFILL_ROWS, &Cancel::default()).await? {
                engine.sampled(&step).await?;
            }
        }
        let prompt_s = started.elapsed().as_secs_f64();
        let before = engine.counters();
        let started = Instant::now();
        let mut waiting = None;
        for _ in 0..generate {
            let span = |&slot: &SlotId| engine.span(slot, Tokens::Sampled, Outputs::Last);
            let spans = slots.iter().map(span).collect::<Result<_, _>>()?;
            let running = engine.run(&Step { spans })?;
            // One step is always under way while the one before is read.
            if let Some(before) = waiting.replace(running) {
                engine.sampled(&before).await?;
            }
        }
        if let Some(last) = waiting {
            engine.sampled(&last).await?;
        }
        let generate_s = started.elapsed().as_secs_f64();
        let after = engine.counters();
        for slot in slots {
            engine.close(slot)?;
        }
        Ok(Measured {
            prompt_s,
            generate_s,
            generated: generate,
            speculation: None,
            dispatches: after.dispatches - before.dispatches,
            objects: after.objects - before.objects,
        })
    }
}

/// The same in one sequence, with drafts.
async fn speculate(
    engine: &mut Engine,
    slot: SlotId,
    prompt: &[u32],
    generate: usize,
) -> Result<Measured, CommandError> {
    let started = Instant::now();
    let options = GenerateOptions { max_tokens: generate + 1, ..GenerateOptions::default() };
    let mut generation = Generation::start(engine, slot, prompt, &options).await?;
    let prompt_s = started.elapsed().as_secs_f64();
    let before = engine.counters();
    let (started, mut made) = (Instant::now(), 0_usize);
    while generation.next(engine).await?.is_some() {
        made += 1;
    }
    let generate_s = started.elapsed().as_secs_f64();
    let after = engine.counters();
    engine.close(slot)?;
    Ok(Measured {
        prompt_s,
        generate_s,
        // The first comes from the prompt.
        generated: made.saturating_sub(1),
        speculation: generation.speculated(),
        dispatches: after.dispatches - before.dispatches,
        objects: after.objects - before.objects,
    })
}

/// Times and counts of one run.
struct Measured {
    prompt_s: f64,
    generate_s: f64,
    /// Tokens of each sequence.
    generated: usize,
    speculation: Option<Speculated>,
    dispatches: u64,
    objects: u64,
}

/// The table, for people: `pp` is reading, `tg` writing.
fn table(results: &[Measurement]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 8]| {
        let [model, backend, weights, test, rate, kernels, bytes, objects] = cells;
        text.push_str(&format!(
            "| {model:<24} | {backend:<7} | {weights:<7} | {test:<16} | {rate:>10} | {kernels:>13} | {bytes:>11} | {objects:>13} |\n"
        ));
    };
    line(["model", "backend", "weights", "test", "tokens/s", "kernels/token", "bytes/token", "objects/token"]);
    line(["---", "---", "---", "---", "---:", "---:", "---:", "---:"]);
    for m in results {
        let (prompt, write) =
            (format!("pp{} @ d{}", m.prompt_tokens, m.depth), format!("tg{} @ d{}", m.generate_tokens, m.depth));
        let megabytes = format!("{:.1} MB", m.bytes_per_token as f64 / 1e6);
        line([&m.model, m.backend, &m.weights, &prompt, &format!("{:.2}", m.prompt_tps), "", "", ""]);
        line([
            &m.model,
            m.backend,
            &m.weights,
            &write,
            &format!("{:.2}", m.generate_tps),
            &format!("{:.0}", m.dispatches_per_token),
            &megabytes,
            &format!("{:.0}", m.objects_per_token),
        ]);
    }
    for (m, counts) in results.iter().filter_map(|m| Some((m, m.speculation?))) {
        text.push_str(&format!("\nat depth {}: {counts}\n", m.depth));
    }
    for m in results.iter().filter(|m| !m.kernels.is_empty()) {
        text.push_str(&kernel_table(m));
    }
    if let Some(first) = results.first() {
        let told = first.forms.as_ref().zip(first.forms_from);
        let forms = told.map_or_else(String::new, |(forms, from)| format!(", forms {forms} ({})", from.name()));
        text.push_str(&format!("\n{}{forms}, batch {}\n", first.adapter, first.batch));
    }
    text
}

/// Times of the kernels: those of the prompt run in programs of many rows, those of the reply in one of few.
fn kernel_table(measured: &Measurement) -> String {
    let mut text = format!("\nKernels at depth {}:\n\n", measured.depth);
    text.push_str("| rows | starts |    ms each |    ms all | share | kernel (ops) |\n");
    text.push_str("| ---: |   ---: |       ---: |      ---: |  ---: | --- |\n");
    let all: f64 = measured.kernels.iter().map(|kernel| kernel.seconds).sum();
    for KernelTime { rows, op, kernel, starts, seconds } in &measured.kernels {
        let (total, each, share) = (seconds * 1e3, seconds * 1e3 / *starts as f64, 100.0 * seconds / all);
        text.push_str(&format!(
            "| {rows:>4} | {starts:>6} | {each:>10.4} | {total:>9.2} | {share:>4.1}% | {kernel} ({op}) |\n"
        ));
    }
    text
}
