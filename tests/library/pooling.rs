//! Embeddings and scores: every family's beside its reference, and what is refused.

use crate::support::pooling::{compare_embeddings, compare_scores_together, pooled, run};
use crate::support::{REWARDS, Setting, Worst, checkpoint, cpu, families, folder, load, wait};
use selvedge::checkpoint::{Checkpoint, Memory};
use selvedge::generate::prompt_cache::PromptCache;
use selvedge::generate::scheduler::{Event, Pooling, PoolingTask, Scheduler, SequenceRequest};
use selvedge::generate::{self, GenerateOptions};
use selvedge::runtime::{EngineError, Purpose};

#[test]
fn embeddings_of_every_family_agree_with_the_reference() {
    families().for_each(|case| compare_embeddings(&cpu(), case));
}

#[test]
fn scores_of_several_texts_agree_with_the_reference() {
    REWARDS.iter().for_each(|case| compare_scores_together(&cpu(), case));
}

#[test]
fn a_batch_is_what_each_text_is_alone() {
    let mut engine = load(&cpu(), &checkpoint("falcon_h1"), Setting { slots: 3, ..Setting::default() });
    let texts: Vec<Vec<u32>> = (1..8).map(|i| (0..i * 9).map(|at| (10 + (at * 7 + i) % 80) as u32).collect()).collect();
    for pooling in [Pooling::Mean, Pooling::Last] {
        let together = wait(generate::embed(&mut engine, &texts, pooling)).expect("vectors");
        for (text, vector) in texts.iter().zip(&together) {
            let alone = wait(generate::embed(&mut engine, std::slice::from_ref(text), pooling)).expect("a vector");
            assert_eq!(&alone[0], vector, "{pooling:?}");
            let length = vector.iter().map(|x| x * x).sum::<f32>();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
        }
        assert_ne!(together[0], together[1]);
    }
    assert_eq!(wait(generate::embed(&mut engine, &[], Pooling::Mean)).expect("nothing"), Vec::<Vec<f32>>::new());
    let held: Vec<_> = (0..3).map(|_| engine.open().expect("a slot")).collect();
    let error = wait(generate::embed(&mut engine, &texts, Pooling::Mean)).expect_err("no slot");
    assert!(matches!(error, EngineError::NoSlot(3)), "{error}");
    held.into_iter().for_each(|slot| engine.close(slot).expect("an open slot"));
    // A text that cannot be read ends the others, and all slots are free again.
    for bad in [vec![], vec![1 << 30]] {
        let texts = [texts[5].clone(), bad, texts[6].clone()];
        wait(generate::embed(&mut engine, &texts, Pooling::Mean)).expect_err("a bad text");
        assert_eq!(engine.pages().0, engine.pages().1);
    }
    wait(generate::embed(&mut engine, &texts, Pooling::Last)).expect("the slots are free");
}

#[test]
fn a_vector_that_the_model_does_not_give_is_refused() {
    for (case, task, why) in [
        ("llama", PoolingTask::Score, "no classification head"),
        ("llama_reward", PoolingTask::Embed(Pooling::Mean), "classification head"),
    ] {
        let mut engine = load(&cpu(), &checkpoint(case), Setting { purpose: Purpose::Any, ..Setting::default() });
        let (mut scheduler, mut cache) = (Scheduler::default(), PromptCache::new(0));
        scheduler.submit(&engine, pooled(vec![12, 13], task)).expect("room");
        let events = wait(scheduler.step(&mut engine, &mut cache)).expect("a step");
        let [(_, Event::Failed(error))] = events.as_slice() else { panic!("{events:?}") };
        assert!(error.to_string().contains(why), "{error}");
        assert!(scheduler.is_idle());
    }
}

#[test]
fn a_base_model_is_read_under_the_names_of_one_with_a_head() {
    let read = |file: &str| std::fs::read(folder("qwen3").join(file)).expect("a golden's file");
    let weights = read("model.safetensors");
    let (header, data) =
        (8 + u64::from_le_bytes(*weights.first_chunk().expect("a length")) as usize, weights.as_slice());
    let text = std::str::from_utf8(&data[8..header]).expect("a header");
    let fewer = text.replace("\"model.", "\"");
    assert_ne!(fewer, text);
    let base = [&(fewer.len() as u64).to_le_bytes(), fewer.as_bytes(), &data[header..]].concat();
    let source = Memory::new().with("config.json", read("config.json")).with("model.safetensors", base);
    let base = wait(Checkpoint::open(source)).expect("a checkpoint");
    let ids = vec![pooled((10..40).collect(), PoolingTask::Embed(Pooling::Last))];
    let [base, whole] = [base, checkpoint("qwen3")].map(|checkpoint| {
        let mut engine = load(&cpu(), &checkpoint, Setting::default());
        run(&mut engine, &mut PromptCache::new(0), &ids)
    });
    assert_eq!(base, whole);
}

#[test]
fn what_the_cache_knows_of_a_text_is_not_read_again() {
    let long: Vec<u32> = (0..900).map(|at| 10 + (at * 7 + at / 90) % 80).collect();
    let setting = || Setting { slots: 2, purpose: Purpose::Any, ..Setting::default() };
    for (case, task) in [("llama_reward", PoolingTask::Score), ("falcon_h1", PoolingTask::Embed(Pooling::Last))] {
        let mut engine = load(&cpu(), &checkpoint(case), setting());
        let wanted = pooled(long.clone(), task);
        let fresh = run(&mut engine, &mut PromptCache::new(0), std::slice::from_ref(&wanted)).remove(0);
        let mut cache = PromptCache::new(1 << 24);
        // Embeddings find what replies left; scores what scores did.
        let text = SequenceRequest { pooling: None, ..wanted.clone() };
        let before = if task == PoolingTask::Score { &wanted } else { &text };
        run(&mut engine, &mut cache, &[SequenceRequest { options: short(), ..before.clone() }]);
        let made = cache.counts().made;
        let again = run(&mut engine, &mut cache, std::slice::from_ref(&wanted)).remove(0);
        assert!(again.cached > 500 && fresh.cached == 0, "{case}: {} tokens were known", again.cached);
        let mut worst = Worst::new(format!("{case}, from the cache"), 1e-5);
        worst.compare("the vector", &again.vector, &fresh.vector);
        worst.finish();
        // A mean needs all rows; and no embedding leaves anything.
        if let PoolingTask::Embed(_) = task {
            let mean = pooled(long.clone(), PoolingTask::Embed(Pooling::Mean));
            assert_eq!(run(&mut engine, &mut cache, &[mean])[0].cached, 0);
            assert_eq!(cache.counts().made, made, "checkpoints");
        }
    }
}

fn short() -> GenerateOptions {
    GenerateOptions { max_tokens: 2, ..GenerateOptions::default() }
}
