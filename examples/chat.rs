//! A conversation of one question: `cargo run --example chat -- [FOLDER [QUESTION]]`, by default with the demo model.

use std::error::Error;
use std::path::Path;

use selvedge::backend::cpu::CpuBackend;
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::generate::{Chat, ChatRequest, chat_template};
use selvedge::runtime::{Engine, EngineOptions};
use selvedge::text::ChatMessage;

/// Asks the model in `folder` a question, and calls `show` with each part of its answer.
pub async fn chat(folder: &Path, question: &str, show: &mut dyn FnMut(&str)) -> Result<(), Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Folder::open(folder)?).await?;
    let backend = Box::new(CpuBackend::new()); // or a WebGpuBackend, or a CudaBackend
    let mut engine = Engine::load(&checkpoint, backend, EngineOptions::new(&mut |_| {})).await?;
    let template = chat_template(&checkpoint).await?.ok_or("the model has no chat template")?;
    let mut chat = Chat::new(&engine, template)?;
    let request = ChatRequest::new(vec![ChatMessage::new("user", question)]);
    let mut turn = chat.begin(&mut engine, &request).await?;
    while let Some(delta) = turn.next(&mut engine).await? {
        delta.answer().for_each(&mut *show);
    }
    chat.end(&mut engine, turn).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo").into());
    let question = arguments.next().unwrap_or_else(|| "Hello.".into());
    pollster::block_on(chat(Path::new(&folder), &question, &mut |text| print!("{text}")))?;
    println!();
    Ok(())
}
