//! Selvedge runs **hybrid language models**, in which attention and state-space layers work together: on the CPU, on any
//! GPU through WebGPU (Vulkan, Metal, Direct3D, or a browser), and on NVIDIA cards through CUDA. One graph of a model
//! serves all of them.
//!
//! # A first answer
//!
//! ```
//! # #[cfg(feature = "native")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use selvedge::backend::cpu::CpuBackend;
//! use selvedge::checkpoint::{Checkpoint, Folder};
//! use selvedge::generate::{Chat, ChatRequest, chat_template};
//! use selvedge::runtime::{Engine, EngineOptions};
//! use selvedge::text::ChatMessage;
//!
//! // A folder as Hugging Face has it: config.json, model.safetensors, tokenizer.json.
//! let checkpoint = Checkpoint::open(Folder::open("assets/demo")?).await?;
//! let backend = Box::new(CpuBackend::new());
//! let mut engine = Engine::load(&checkpoint, backend, EngineOptions::new(&mut |_| {})).await?;
//!
//! let template = chat_template(&checkpoint).await?.ok_or("the model has no chat template")?;
//! let mut chat = Chat::new(&engine, template)?;
//! let request = ChatRequest::new(vec![ChatMessage::new("user", "Hello.")]);
//! let mut turn = chat.begin(&mut engine, &request).await?;
//! while let Some(delta) = turn.next(&mut engine).await? {
//!     delta.answer().for_each(|text| print!("{text}"));
//! }
//! chat.end(&mut engine, turn).await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` in the repository has this as a program (`chat.rs`), the logits of a text (`logits.rs`), and several
//! sequences in one step (`batch.rs`). All calls are `async`, because a browser never blocks; natively any executor
//! will do, `pollster::block_on` is enough.
//!
//! # Concepts
//!
//! ```text
//!  config.json --arch--> Model: Graph + weight recipes       safetensors, config, tokenizer
//!                            |                                          |
//!                            |                                     Checkpoint
//!                            v                                          |
//!   Backend  <--compile--  Engine  <--load (slice, fold, quantise)------+
//!  cpu|webgpu|cuda           |
//!      ^                     |  slots, pages, programs by number of rows
//!      |                     v
//!      +---- Step: spans of tokens of some slots ----> logits, or a sampled token for each slot
//!                            ^
//!                            |
//!            Generation in one slot, Session, Chat, Perplexity
//! ```
//!
//! | concept | type | meaning |
//! |---|---|---|
//! | graph | [`graph::Graph`] | A model as data: values, ops of one closed set, weight recipes, state declarations. |
//! | family | [`arch::build`] | A function from a `config.json` to a graph, one file for each family. |
//! | checkpoint | [`checkpoint::Checkpoint`] | Tensors and files of a model, in a folder, in memory or behind HTTP ranges. |
//! | backend | [`backend::Backend`] | A device that compiles a graph into a program and runs steps of it. |
//! | engine | [`runtime::Engine`] | A model on a backend: it loads weights, opens slots and runs steps. |
//! | slot | [`state::SlotId`] | Memory of one sequence on the device: keys and values, convolution and recurrent states. |
//! | step | [`backend::Step`] | Spans of tokens, each of one slot, computed together: prompts, single tokens, or both. |
//! | generation | [`generate::Generation`] | Tokens of one slot, one by one, chosen by a [`state::Sampler`] on the device. |
//! | chat | [`generate::Chat`] | Conversations: messages become a prompt, tokens become a streamed reply; what a slot has read before is not read again ([`generate::Session`]). |
//!
//! # Modules
//!
//! From the bottom up; a module uses only those before it:
//!
//! * [`formats`]: the bytes of the 8- and 4-bit formats, and rounding to them.
//! * [`graph`]: the model as data. [`arch`]: the families that build it.
//! * [`state`]: layout of the slots' memory. [`checkpoint`]: tensors, loading, conversion.
//! * [`backend`]: the trait, and its implementations [`backend::cpu`], [`backend::webgpu`] and `backend::cuda`.
//! * [`text`]: tokenizer, detokenizer, chat templates. `hub`: models by their name on the Hugging Face hub.
//! * [`runtime`]: the engine. [`generate`]: generations and conversations. [`eval`]: perplexity, scores, random weights.
//!
//! `ARCHITECTURE.md` in the repository tells how they work together.
//!
//! # Features
//!
//! | feature | default | meaning |
//! |---|---|---|
//! | `native` | yes | Threads, checkpoints in folders, graphics drivers of the system. |
//! | `hub` | yes | Models from the Hugging Face hub, in the cache that Python's `huggingface_hub` uses. |
//! | `native-cuda` | no | NVIDIA cards, through the CUDA driver that is loaded at run time. |
//! | `web` | no | Browsers: WebGPU of the page, bindings for JavaScript (module `wasm`). |
//! | `demo-model` | no | The small trained model of `assets/demo`, as part of the program (module `demo_model`). |
//! | `clap` | no | `clap::ValueEnum` for the enums that are options of the `selvedge` command. |
//!
//! Without features the library has the graph, the formats, the CPU backend and WebGPU's shaders, and touches neither
//! files nor the network.
//!
//! # Errors
//!
//! Every module has one error enum; [`runtime::EngineError`] holds those below it. A message says what is wrong, where,
//! and what to do. No input leads to a panic.

pub mod arch;
pub mod backend;
pub mod checkpoint;
mod constants;
#[cfg(feature = "demo-model")]
pub mod demo_model;
pub mod eval;
pub mod formats;
pub mod generate;
pub mod graph;
pub mod hash;
#[cfg(feature = "hub")]
pub mod hub;
mod json;
pub mod runtime;
pub mod state;
pub mod text;
#[cfg(all(feature = "web", target_arch = "wasm32"))]
pub mod wasm;
