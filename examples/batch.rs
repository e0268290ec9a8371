//! Several sequences in every step: `cargo run --example batch -- [TEXT ...]`, with the demo model.

use std::error::Error;
use std::path::Path;

use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::{Outputs, Step, Tokens};
use selvedge::checkpoint::{Checkpoint, Folder, LoadProgress};
use selvedge::runtime::{Engine, EngineOptions};

/// Continues all `texts` at once by `count` tokens each, always with the most probable one.
pub async fn batch(folder: &Path, texts: &[&str], count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Folder::open(folder)?).await?;
    let mut progress = |_: LoadProgress| {};
    let options = EngineOptions { slots: texts.len(), ..EngineOptions::new(&mut progress) };
    let mut engine = Engine::load(&checkpoint, Box::new(CpuBackend::new()), options).await?;
    let tokenizer = engine.tokenizer()?;
    let slots = texts.iter().map(|_| engine.open()).collect::<Result<Vec<_>, _>>()?;
    // The first step reads all prompts, one span each. In the others every sequence reads the token that it chose,
    // which never leaves the device for that.
    let mut tokens =
        texts.iter().map(|text| tokenizer.encode(text).map(Tokens::Given)).collect::<Result<Vec<_>, _>>()?;
    let mut chosen = vec![vec![]; texts.len()];
    for _ in 0..count {
        let spans = slots.iter().zip(tokens).map(|(&slot, tokens)| engine.span(slot, tokens, Outputs::Last));
        let step = Step { spans: spans.collect::<Result<_, _>>()? };
        let step = engine.run(&step)?;
        chosen.iter_mut().zip(engine.sampled(&step).await?).for_each(|(chosen, token)| chosen.push(token));
        tokens = vec![Tokens::Sampled; texts.len()];
    }
    Ok(chosen.iter().map(|ids| tokenizer.decode(ids)).collect::<Result<_, _>>()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut texts: Vec<String> = std::env::args().skip(1).collect();
    if texts.is_empty() {
        texts = ["One cold day Mia", "Anna ate some"].map(String::from).into();
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    for (text, more) in texts.iter().zip(pollster::block_on(batch(&folder, &texts, 16))?) {
        println!("{text}{more}");
    }
    Ok(())
}
