//! `selvedge bench --state`: what it costs to keep the state of a text, beside reading the text again.

use std::time::Instant;

use indicatif::HumanBytes;
use serde::Serialize;

use crate::error::CommandError;
use crate::terminal;
use selvedge::generate::{GenerateOptions, Session};
use selvedge::runtime::{Engine, EngineError};
use selvedge::state::Snapshot;

/// Times that each act is repeated; the least counts.
const ROUNDS: usize = 5;
/// Tokens that are taken back.
const BACK: usize = 16;

/// One act.
#[derive(Serialize)]
struct Cost {
    act: String,
    seconds: f64,
    /// Part of the time that reading the text takes.
    of_reading: f64,
    bytes: u64,
}

/// Measures with a text of `tokens` tokens; gives what is to be printed.
pub(super) async fn measure(engine: &mut Engine, tokens: usize, json: bool) -> Result<String, CommandError> {
    let words = engine.model().vocabulary as u32;
    let first = words.min(10);
    let text: Vec<u32> = (0..tokens.max(1) as u32).map(|i| first + i * 7919 % (words - first).max(1)).collect();
    let one = GenerateOptions { max_tokens: 1, ..GenerateOptions::default() };
    let mut costs: Vec<Cost> = vec![];
    let mut note = |act: &str, seconds: f64, bytes: u64| {
        let reading = costs.first().map_or(seconds, |reading| reading.seconds);
        costs.push(Cost { act: act.into(), seconds, of_reading: seconds / reading, bytes });
    };

    let mut session = Session::open(engine)?;
    let mut reading = f64::INFINITY;
    for _ in 0..2 {
        session.close(engine)?;
        session = Session::open(engine)?;
        let begun = Instant::now();
        go_on(engine, &mut session, &text, &one).await?;
        reading = reading.min(begun.elapsed().as_secs_f64());
    }
    let (block, row) = (engine.layout().block_bytes(), engine.layout().bytes().per_token);
    note(&format!("read {tokens} tokens"), reading, block + row * tokens as u64);

    // The device works behind the host's back: an act's time is what it adds to a step whose token is waited for.
    let mut step = f64::INFINITY;
    for _ in 0..ROUNDS {
        step = step.min(one_step(engine, &mut session).await?);
    }
    note("a decode step", step, engine.bytes_per_step(1, tokens));
    let mut checkpoint = f64::INFINITY;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let kept = (0..4).map(|_| engine.checkpoint(session.slot())).collect::<Result<Vec<_>, _>>()?;
        one_step(engine, &mut session).await?;
        checkpoint = checkpoint.min((begun.elapsed().as_secs_f64() - step).max(0.0) / kept.len() as f64);
        kept.into_iter().for_each(|checkpoint| engine.discard(checkpoint));
    }
    note("a checkpoint on the device", checkpoint, block);

    let mut rollback = f64::INFINITY;
    session.keep_recent(engine, BACK);
    let many = GenerateOptions { max_tokens: 3 * BACK, ..GenerateOptions::default() };
    for _ in 0..ROUNDS {
        // A model may end a text early.
        let wanted = session.tokens().len() + 3 * BACK;
        while session.tokens().len() < wanted {
            let longer = [session.tokens(), &[first]].concat();
            go_on(engine, &mut session, &longer, &many).await?;
        }
        let begun = Instant::now();
        session.rollback(engine, BACK).await?;
        rollback = rollback.min(begun.elapsed().as_secs_f64());
    }
    note(&format!("take {BACK} tokens back"), rollback, block);

    let begun = Instant::now();
    let snapshot = session.snapshot(engine).await?;
    let bytes = snapshot.to_bytes().map_err(EngineError::from)?;
    note("save into a file's bytes", begun.elapsed().as_secs_f64(), bytes.len() as u64);
    session.close(engine)?;
    let begun = Instant::now();
    let snapshot = Snapshot::from_bytes(&bytes).map_err(EngineError::from)?;
    let (mut session, _) = Session::restore(engine, &snapshot)?;
    one_step(engine, &mut session).await?;
    note("restore from them", (begun.elapsed().as_secs_f64() - step).max(0.0), bytes.len() as u64);
    session.close(engine)?;
    if json { terminal::json(&costs) } else { Ok(table(engine, &costs)) }
}

/// Reads what is new of a text, and makes as many tokens as the options say.
async fn go_on(
    engine: &mut Engine,
    session: &mut Session,
    text: &[u32],
    options: &GenerateOptions,
) -> Result<(), CommandError> {
    let (mut generation, _) = session.begin(engine, text, options).await?;
    while session.next(engine, &mut generation).await?.is_some() {}
    Ok(())
}

/// Seconds of reading one token and choosing the next.
async fn one_step(engine: &mut Engine, session: &mut Session) -> Result<f64, CommandError> {
    let begun = Instant::now();
    let longer = [session.read_tokens(engine)?, &[11]].concat();
    let one = GenerateOptions { max_tokens: 1, ..GenerateOptions::default() };
    go_on(engine, session, &longer, &one).await?;
    Ok(begun.elapsed().as_secs_f64())
}

fn table(engine: &Engine, costs: &[Cost]) -> String {
    let mut text = format!("| {:<26} | {:>10} | {:>10} | {:>11} |\n", "act", "seconds", "of reading", "bytes");
    text.push_str("| --- | ---: | ---: | ---: |\n");
    for Cost { act, seconds, of_reading, bytes } in costs {
        let bytes = HumanBytes(*bytes).to_string();
        text.push_str(&format!("| {act:<26} | {seconds:>10.4} | {of_reading:>10.5} | {bytes:>11} |\n"));
    }
    text + &format!("\n{}\n", engine.info().adapter)
}
