//! The most probable next tokens of a text: `cargo run --example logits -- [FOLDER [TEXT]]`, by default with the demo
//! model.

use std::error::Error;
use std::path::Path;

use selvedge::backend::Outputs;
use selvedge::backend::cpu::CpuBackend;
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::runtime::{Engine, EngineOptions};

/// The `count` tokens with the largest logits after `text`, largest first, each with its logit.
pub async fn next_tokens(folder: &Path, text: &str, count: usize) -> Result<Vec<(String, f32)>, Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Folder::open(folder)?).await?;
    let backend = Box::new(CpuBackend::new());
    let mut engine = Engine::load(&checkpoint, backend, EngineOptions::new(&mut |_| {})).await?;
    let tokenizer = engine.tokenizer()?;
    let slot = engine.open()?;
    let step = engine.enqueue(slot, &tokenizer.encode(text)?, Outputs::Last)?;
    let logits = engine.logits(&step).await?; // f32 [1, vocabulary]
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    ids.truncate(count);
    ids.into_iter().map(|id| Ok((tokenizer.decode(&[id])?, logits[id as usize]))).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo").into());
    let text = arguments.next().unwrap_or_else(|| "Anna ate some".into());
    for (token, logit) in pollster::block_on(next_tokens(Path::new(&folder), &text, 5))? {
        println!("{logit:8.3}  {token:?}");
    }
    Ok(())
}
