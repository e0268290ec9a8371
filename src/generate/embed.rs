//! Embeddings of texts, several in a step.

use super::GenerateOptions;
use super::prompt_cache::PromptCache;
use super::scheduler::{Event, Pooling, PoolingTask, Scheduler, SchedulerOptions, SequenceRequest};
use crate::runtime::{Engine, EngineError};

/// Embeds texts: a vector `f32 [hidden]` of length 1 for each, in their order. As many are read together as the engine has
/// slots free; [`EngineError::NoSlot`] where there is none. The first text that cannot be read is an error, and nothing is given
/// then; the slots are free again in any case.
pub async fn embed(engine: &mut Engine, texts: &[Vec<u32>], pooling: Pooling) -> Result<Vec<Vec<f32>>, EngineError> {
    let options = SchedulerOptions { waiting: texts.len(), ..SchedulerOptions::default() };
    let (mut scheduler, mut cache) = (Scheduler::new(options), PromptCache::new(0));
    let options = GenerateOptions::default();
    let mut ids = vec![];
    for prompt in texts {
        let (prompt, options, pooling) = (prompt.clone(), options.clone(), Some(PoolingTask::Embed(pooling)));
        let request = SequenceRequest { prompt, marks: vec![], options, pooling };
        ids.extend(scheduler.submit(engine, request));
    }
    if !texts.is_empty() {
        // The scheduler waits for slots that others have; here nobody would give one back.
        let slot = engine.open()?;
        engine.close(slot)?;
    }
    let (mut vectors, mut failed) = (vec![vec![]; texts.len()], None);
    while !scheduler.is_idle() {
        let events = match scheduler.step(engine, &mut cache).await {
            Ok(events) => events,
            Err(error) => {
                scheduler.close(engine)?;
                return Err(error);
            }
        };
        for (id, event) in events {
            match (event, ids.iter().position(|&other| other == id)) {
                (Event::Pooled(vector), Some(index)) => vectors[index] = vector,
                (Event::Failed(error), _) => {
                    // What is under way ends, so that its slots are given back.
                    options.cancel.cancel();
                    failed.get_or_insert(error);
                }
                _ => {}
            }
        }
    }
    failed.map_or(Ok(vectors), Err)
}
