//! `/health` and `/metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::ApiError;
use crate::worker::Counts;

/// Whether requests are taken. Routers send none where this fails.
pub(super) async fn health(State(api): State<Api>) -> Result<&'static str, ApiError> {
    api.check_open()?;
    let loaded = api.models.loaded();
    if !loaded.is_empty() && loaded.iter().all(|worker| !worker.is_alive()) {
        return Err(ApiError::unavailable("the model's device has failed"));
    }
    Ok("ok\n")
}

/// The counts of all models that are loaded, in the text format of Prometheus. Of several models each has its name as a label.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let named = api.models.names().len() > 1;
    let counts = api.models.loaded().into_iter().map(|worker| {
        let name = worker.about.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        (if named { format!("{{model=\"{name}\"}}") } else { String::new() }, worker.counts())
    });
    let text = prometheus(&counts.collect::<Vec<_>>());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Name, kind and description of a metric, and its value.
type Metric = (&'static str, &'static str, &'static str, fn(&Counts) -> u64);

const METRICS: [Metric; 16] = [
    ("requests_running", "gauge", "Sequences that are read or made", |counts| counts.running as u64),
    ("requests_waiting", "gauge", "Requests that wait for a slot", |counts| counts.waiting as u64),
    ("requests_total", "counter", "Requests taken", |counts| counts.requests),
    ("steps_total", "counter", "Rounds of the scheduler", |counts| counts.steps),
    ("generation_tokens_total", "counter", "Tokens made", |counts| counts.made_tokens),
    ("prompt_tokens_total", "counter", "Tokens of prompts", |counts| counts.cache.prompt_tokens),
    ("prompt_tokens_cached_total", "counter", "Tokens of prompts that were not read again", |counts| {
        counts.cache.cached_tokens
    }),
    ("prompt_tokens_stored_total", "counter", "Those of them that came from the store", |counts| {
        counts.cache.stored_tokens
    }),
    ("drafted_tokens_total", "counter", "Tokens drafted by the model's heads for later tokens", |counts| {
        counts.drafted
    }),
    ("accepted_tokens_total", "counter", "Those of them that became part of a reply", |counts| counts.accepted),
    ("checkpoints", "gauge", "State checkpoints on the device", |counts| counts.checkpoints as u64),
    ("checkpoint_bytes", "gauge", "Bytes of their blocks", |counts| counts.checkpoint_bytes),
    ("kv_pages_used", "gauge", "Pages of keys and values in use", |counts| (counts.pages - counts.free_pages) as u64),
    ("kv_pages", "gauge", "Pages of keys and values", |counts| counts.pages as u64),
    ("weight_bytes", "gauge", "Bytes of the weights on the device", |counts| counts.weight_bytes),
    ("state_bytes", "gauge", "Bytes of all sequences' memory on the device", |counts| counts.state_bytes),
];

fn prometheus(models: &[(String, Counts)]) -> String {
    let metric = |(name, kind, help, value): &Metric| {
        let values = models.iter().map(|(label, counts)| format!("selvedge_{name}{label} {}\n", value(counts)));
        format!("# HELP selvedge_{name} {help}\n# TYPE selvedge_{name} {kind}\n{}", values.collect::<String>())
    };
    METRICS.iter().map(metric).collect()
}
