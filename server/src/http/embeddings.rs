//! `/v1/embeddings`: vectors of length 1, of the rows of the last norm.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use selvedge::generate::scheduler::PoolingTask;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::pooled::{MOST_TEXTS, pooled, tokens};
use super::prompts::Prompts;
use super::{Api, body};
use crate::jobs::PooledText;

#[derive(Deserialize)]
#[serde(expecting = "an object with `input`")]
struct Body {
    input: Prompts,
    model: Option<String>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

pub(super) async fn embeddings(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let Body { input, model, encoding_format, dimensions } = body(&api, request).await?;
    let (api, _held) = api.model(model.as_deref()).await?;
    let encode: fn(&[f32]) -> Value = match encoding_format.as_deref() {
        None | Some("float") => |vector| json!(vector),
        Some("base64") => |vector| in_base64(vector).into(),
        Some(_) => return Err(ApiError::field("encoding_format", "`encoding_format` may be \"float\" or \"base64\"")),
    };
    api.check_makes_text("embeddings")?;
    let most = api.about().width;
    if dimensions.is_some_and(|dimensions| !(1..=most).contains(&dimensions)) {
        return Err(ApiError::field("dimensions", format!("`dimensions` may be 1 to {most}")));
    }
    let texts = input.list("input", MOST_TEXTS)?;
    let text = |index: usize| Ok(PooledText::Plain(texts[index].clone()));
    let mut done = pooled(&api, texts.len(), text, PoolingTask::Embed(api.about().pooling)).await?;
    if let Some(dimensions) = dimensions {
        done.iter_mut().for_each(|whole| shorten(&mut whole.vector, dimensions));
    }
    let tokens = tokens(&done);
    let data = done
        .iter()
        .enumerate()
        .map(|(index, whole)| json!({ "object": "embedding", "index": index, "embedding": encode(&whole.vector) }));
    Ok(Json(json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": api.about().name,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    }))
    .into_response())
}

/// The numbers as little-endian f32 in base64, which OpenAI's clients ask for.
fn in_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The first numbers, of length 1 again: shorter vectors of models that were trained for it (Kusupati et al. 2022, "Matryoshka
/// representation learning", arXiv 2205.13147).
fn shorten(vector: &mut Vec<f32>, dimensions: usize) {
    vector.truncate(dimensions);
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_vector_has_length_one_too() {
        let mut vector = vec![0.36, 0.48, 0.8];
        shorten(&mut vector, 2);
        assert!((vector[0] - 0.6).abs() < 1e-6 && (vector[1] - 0.8).abs() < 1e-6 && vector.len() == 2, "{vector:?}");
        let mut nothing = vec![0.0, 0.0];
        shorten(&mut nothing, 1);
        assert_eq!(nothing, [0.0]);
    }
}
