//! `/v1/score` and `/v1/rerank`: how well texts answer another. A reward model scores each as the assistant's reply to it; of a
//! language model it is the cosine of the two embeddings. Shapes: vLLM's score and rerank, as Jina and Cohere have the latter.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use selvedge::generate::ChatRequest;
use selvedge::generate::scheduler::PoolingTask;
use selvedge::text::ChatMessage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::pooled::{MOST_TEXTS, pooled, tokens};
use super::replies::Head;
use super::served::Served;
use super::{Api, body};
use crate::jobs::{PooledText, Prompt};
use crate::worker::About;

#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a text or a list of texts")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `queries` and `documents`")]
struct ScoreBody {
    #[serde(alias = "text_1", alias = "data_1")]
    queries: Texts,
    #[serde(alias = "text_2", alias = "data_2", alias = "items")]
    documents: Texts,
    model: Option<String>,
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a document must be a text, or an object with `text`")]
enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `query` and `documents`")]
struct RerankBody {
    query: String,
    documents: Vec<Document>,
    model: Option<String>,
    label: Option<String>,
    top_n: Option<usize>,
    return_documents: Option<bool>,
}

pub(super) async fn score(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let ScoreBody { queries, documents, model, label } = body(&api, request).await?;
    let (api, _held) = api.model(model.as_deref()).await?;
    let (queries, documents) = (queries.list(), documents.list());
    if queries.len() != documents.len() && queries.len() != 1 {
        let (queries, documents) = (queries.len(), documents.len());
        let why = format!("{queries} queries for {documents} documents: there must be one, or one for each");
        return Err(ApiError::field("queries", why));
    }
    let (scores, tokens) = scored(&api, &queries, &documents, label.as_deref()).await?;
    let mut list = Head::new("score", api.about()).object("list");
    let data = scores.iter().enumerate();
    list["data"] = data.map(|(index, score)| json!({ "index": index, "object": "score", "score": score })).collect();
    list["usage"] = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(Json(list).into_response())
}

pub(super) async fn rerank(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let RerankBody { query, documents, model, label, top_n, return_documents } = body(&api, request).await?;
    let (api, _held) = api.model(model.as_deref()).await?;
    let text = |document| match document {
        Document::Text(text) | Document::Object { text } => text,
    };
    let documents: Vec<String> = documents.into_iter().map(text).collect();
    let (scores, tokens) = scored(&api, &[query], &documents, label.as_deref()).await?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // The best first; of equal ones the first.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(top_n.filter(|&count| count > 0).unwrap_or(usize::MAX));
    let result = |index: usize| {
        let mut result = json!({ "index": index, "relevance_score": scores[index] });
        if return_documents != Some(false) {
            result["document"] = json!({ "text": documents[index] });
        }
        result
    };
    let mut answer = Head::new("rerank", api.about()).object("list");
    answer["results"] = order.into_iter().map(result).collect::<Vec<Value>>().into();
    answer["usage"] = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(Json(answer).into_response())
}

/// The score of each document beside its query, and the tokens that were read. `queries` is one for all, or one for each.
async fn scored(
    api: &Served,
    queries: &[String],
    documents: &[String],
    label: Option<&str>,
) -> Result<(Vec<f32>, usize), ApiError> {
    if !(1..=MOST_TEXTS).contains(&documents.len()) {
        return Err(ApiError::field("documents", format!("`documents` may be 1 to {MOST_TEXTS} texts")));
    }
    let about = api.about();
    let query = |index: usize| if queries.len() == 1 { &queries[0] } else { &queries[index] };
    let Some(labels) = &about.labels else {
        if label.is_some() {
            return Err(ApiError::field("label", "`label`: the model has none, and compares embeddings"));
        }
        // Each text is read once.
        let mut texts: Vec<&String> = queries.iter().chain(documents).collect();
        texts.sort();
        texts.dedup();
        let text = |index: usize| Ok(PooledText::Plain(Prompt::Text(texts[index].clone())));
        let done = pooled(api, texts.len(), text, PoolingTask::Embed(about.pooling)).await?;
        let vector = |text: &String| texts.binary_search(&text).map_or(&[][..], |at| done[at].vector.as_slice());
        let scores = documents.iter().enumerate().map(|(index, document)| dot(vector(query(index)), vector(document)));
        return Ok((scores.collect(), tokens(&done)));
    };
    let label = chosen(labels, label)?;
    let text = |index: usize| {
        let (query, document) = (query(index), &documents[index]);
        api.check_bytes(query.len() + document.len())?;
        Ok(reply(about, query, document))
    };
    let done = pooled(api, documents.len(), text, PoolingTask::Score).await?;
    Ok((done.iter().map(|whole| whole.vector[label]).collect(), tokens(&done)))
}

/// Number of the label whose score is wanted: the only one, or the one that is named.
fn chosen(labels: &[String], asked: Option<&str>) -> Result<usize, ApiError> {
    let names = labels.join(", ");
    match asked {
        Some(asked) => labels
            .iter()
            .position(|label| label == asked)
            .ok_or_else(|| ApiError::field("label", format!("`label`: the model has {names}, and no {asked:?}"))),
        None if labels.len() == 1 => Ok(0),
        None => Err(ApiError::field("label", format!("`label` must be one of the model's scores: {names}"))),
    }
}

/// A document as the assistant's reply; without a chat template behind the query.
fn reply(about: &About, query: &str, document: &str) -> PooledText {
    match about.has_chat {
        true => PooledText::Conversation(Box::new(ChatRequest::new(vec![
            ChatMessage::new("user", query),
            ChatMessage::new("assistant", document),
        ]))),
        false => PooledText::Plain(Prompt::Text(format!("{query}{document}"))),
    }
}

/// The cosine of two vectors of length 1.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}
