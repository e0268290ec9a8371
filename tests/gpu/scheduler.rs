//! Many sequences in the same steps on a GPU, where steps run ahead of their tokens: each text is that of its request alone.

use std::collections::BTreeMap;

use crate::support::pooling::{compare_embeddings, compare_scores_together};
use crate::support::{Setting, checkpoint, load, wait, webgpu_or_skipped};
use selvedge::generate::GenerateOptions;
use selvedge::generate::prompt_cache::PromptCache;
use selvedge::generate::scheduler::{Event, Scheduler, SequenceId, SequenceRequest};
use selvedge::runtime::Engine;
use selvedge::state::Sampler;

fn run(engine: &mut Engine, requests: &[SequenceRequest]) -> Vec<Vec<u32>> {
    let (mut scheduler, mut cache) = (Scheduler::default(), PromptCache::new(0));
    let ids = requests.iter().map(|request| scheduler.submit(engine, request.clone()).expect("room"));
    let ids: Vec<SequenceId> = ids.collect();
    let mut texts: BTreeMap<SequenceId, Vec<u32>> = BTreeMap::new();
    while !scheduler.is_idle() {
        for (id, event) in wait(scheduler.step(engine, &mut cache)).expect("a step") {
            match event {
                Event::Token { token, .. } => texts.entry(id).or_default().push(token),
                Event::Failed(error) => panic!("{error}"),
                Event::Begun { .. } | Event::Ended { .. } | Event::Pooled(_) => {}
            }
        }
    }
    assert_eq!(engine.pages().0, engine.pages().1, "no page is lost");
    ids.iter().map(|id| texts.remove(id).unwrap_or_default()).collect()
}

#[test]
fn a_text_does_not_depend_on_its_neighbours() {
    let Some(gpu) = webgpu_or_skipped() else { return };
    let kinds: &[&str] = if gpu.slow { &["falcon_h1"] } else { &["falcon_h1", "hymba/caseA"] };
    for case in kinds {
        let setting = Setting { slots: 3, context: Some(192), ..Setting::default() };
        let mut engine = load(&gpu, &checkpoint(case), setting);
        let vocabulary = engine.model().vocabulary as u32;
        let request = |i: u32| {
            let prompt: Vec<u32> = (0..3 + 17 * i).map(|at| 10 + (at * 7 + 5 * i) % (vocabulary - 12)).collect();
            // One of them ends by a stop token of its own, amid steps that ran ahead.
            let stop_token_ids = if i == 2 { (10..40).collect() } else { vec![] };
            let sampler = Sampler { stop_token_ids, ..Sampler::default() };
            let options = GenerateOptions { sampler, max_tokens: 6 + i as usize, ..GenerateOptions::default() };
            SequenceRequest { prompt, marks: vec![], options, pooling: None }
        };
        let requests: Vec<SequenceRequest> = (0..6).map(request).collect();
        let together = run(&mut engine, &requests);
        for (i, request) in requests.iter().enumerate() {
            let alone = run(&mut engine, std::slice::from_ref(request));
            assert_eq!(together[i], alone[0], "{case}: request {i}");
            assert!(!alone[0].is_empty());
        }
    }
}

#[test]
fn embeddings_and_scores_agree_with_the_reference() {
    let Some(gpu) = webgpu_or_skipped() else { return };
    let kinds: &[&str] = if gpu.slow { &["falcon_h1"] } else { &["falcon_h1", "nemotron_h_moe", "qwen3_5", "lfm2"] };
    kinds.iter().for_each(|case| compare_embeddings(&gpu, case));
    compare_scores_together(&gpu, "llama_reward");
}
