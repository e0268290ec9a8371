//! Embeddings and scores beside the reference's hidden rows and scores, through the scheduler.

use std::collections::BTreeMap;

use selvedge::generate::GenerateOptions;
use selvedge::generate::prompt_cache::PromptCache;
use selvedge::generate::scheduler::{Event, Pooling, PoolingTask, Scheduler, SchedulerOptions, SequenceRequest};
use selvedge::runtime::{Engine, Purpose};

use super::{Golden, Place, Setting, Worst, checkpoint, load, wait};

/// A request for a vector of a text.
pub fn pooled(prompt: Vec<u32>, task: PoolingTask) -> SequenceRequest {
    SequenceRequest { prompt, marks: vec![], options: GenerateOptions::default(), pooling: Some(task) }
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub vector: Vec<f32>,
    pub tokens: Vec<u32>,
    /// Tokens of its prompt that were known.
    pub cached: usize,
}

/// Runs requests together.
pub fn run(engine: &mut Engine, cache: &mut PromptCache, requests: &[SequenceRequest]) -> Vec<Found> {
    // Few rows a step, so that texts come in parts.
    let mut scheduler = Scheduler::new(SchedulerOptions { rows: 32, ..SchedulerOptions::default() });
    let ids: Vec<_> = requests.iter().map(|request| scheduler.submit(engine, request.clone()).expect("room")).collect();
    let mut found: BTreeMap<_, Found> = BTreeMap::new();
    while !scheduler.is_idle() {
        for (id, event) in wait(scheduler.step(engine, cache)).expect("a step") {
            let found = found.entry(id).or_default();
            match event {
                Event::Pooled(vector) => {
                    assert!(found.vector.is_empty(), "one vector a request");
                    found.vector = vector;
                }
                Event::Token { token, .. } => found.tokens.push(token),
                Event::Failed(error) => panic!("{error}"),
                Event::Begun { cached, .. } => found.cached = cached,
                Event::Ended { .. } => {}
            }
        }
    }
    ids.iter().map(|id| found.remove(id).unwrap_or_default()).collect()
}

/// The vector that a reference's rows make, `f32 [rows, hidden]`.
fn wanted(rows: &[f32], hidden: usize, pooling: Pooling) -> Vec<f32> {
    let rows = || rows.chunks_exact(hidden);
    let column = |at: usize| match pooling {
        Pooling::Mean => rows().map(|row| f64::from(row[at])).sum::<f64>() / rows().len() as f64,
        Pooling::Last => rows().next_back().map_or(0.0, |row| f64::from(row[at])),
    };
    let vector: Vec<f64> = (0..hidden).map(column).collect();
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter().map(|x| (x / length) as f32).collect()
}

/// Holds a family's embeddings to its golden: both kinds of pooling, beside a text that is being generated.
pub fn compare_embeddings(place: &Place, case: &str) {
    let golden = Golden::open(case);
    let f32s = if golden.find("f32.logits").is_some() { "f32." } else { "" };
    let rows = &golden.get(&format!("{f32s}hidden.final_norm")).data;
    let ids = golden.ids("input_ids");
    let hidden = rows.len() / ids.len();
    let mut engine = load(place, &checkpoint(case), Setting { slots: 3, ..Setting::default() });
    let mut cache = PromptCache::new(1 << 24);
    let options = GenerateOptions { max_tokens: 6, ..GenerateOptions::default() };
    let text = SequenceRequest { options, pooling: None, ..pooled(ids[..ids.len() / 2].to_vec(), PoolingTask::Score) };
    let alone = run(&mut engine, &mut PromptCache::new(0), std::slice::from_ref(&text)).remove(0).tokens;
    let request = |length: usize, pooling| pooled(ids[..length].to_vec(), PoolingTask::Embed(pooling));
    let whole = ids.len();
    let requests = [
        request(whole, Pooling::Mean),
        text,
        request(whole, Pooling::Last),
        request(whole / 3, Pooling::Mean),
        request(whole, Pooling::Last),
        request(whole, Pooling::Mean),
    ];
    let found = run(&mut engine, &mut cache, &requests);
    let mut worst = Worst::new(format!("{case} on {}, embeddings", place.name), 1e-4 * place.slack);
    for (request, Found { vector, tokens, .. }) in requests.iter().zip(&found) {
        match request.pooling {
            Some(PoolingTask::Embed(pooling)) => {
                let wanted = wanted(&rows[..request.prompt.len() * hidden], hidden, pooling);
                worst.compare(&format!("{pooling:?} of {}", request.prompt.len()), vector, &wanted);
            }
            _ => assert_eq!((*tokens == alone, vector.len()), (true, 0), "{case}: {tokens:?} beside {alone:?}"),
        }
    }
    worst.finish();
}

/// Holds the scores of all texts together to a reward model's golden.
pub fn compare_scores_together(place: &Place, case: &str) {
    let golden = Golden::open(case);
    let setting = Setting { slots: 2, purpose: Purpose::Any, ..Setting::default() };
    let mut engine = load(place, &checkpoint(case), setting);
    let names: Vec<&str> = golden.names("input_ids.").collect();
    let requests: Vec<_> =
        names.iter().map(|name| pooled(golden.ids(&format!("input_ids.{name}")), PoolingTask::Score)).collect();
    let mut worst = Worst::new(format!("{case} on {}, scores", place.name), 2e-4 * place.slack);
    let mut cache = PromptCache::new(1 << 24);
    for (name, found) in names.iter().zip(run(&mut engine, &mut cache, &requests)) {
        worst.compare(name, &found.vector, &golden.get(&format!("scores.{name}")).data);
    }
    worst.finish();
}
