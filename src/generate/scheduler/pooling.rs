//! Vectors that a text is read for, instead of a continuation: an embedding, made of the rows of the last norm, or the scores
//! of a classification head.

use serde::Deserialize;

use crate::checkpoint::POOLING;
use crate::runtime::{Engine, EngineError, Purpose};

/// Value of the graph that embeddings are made of, `f32 [rows, hidden]`. Every family names it so.
pub(super) const LAST_NORM: &str = "final_norm";

/// A vector that a text is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingTask {
    /// An embedding, `f32 [hidden]` of length 1; all zeros where the pooled row is.
    Embed(Pooling),
    /// Scores behind the last token, `f32 [labels]`, of a model with a classification head.
    Score,
}

impl PoolingTask {
    /// Refuses a model that does not give such a vector.
    pub fn check(self, engine: &Engine) -> Result<(), EngineError> {
        match self {
            Self::Embed(_) => Purpose::Generate.check(&engine.model().head),
            Self::Score => Purpose::Score.check(&engine.model().head),
        }
    }

    /// Whether every row of the text is needed, so that none may come from a cache.
    pub(super) fn needs_all_rows(self) -> bool {
        self == Self::Embed(Pooling::Mean)
    }
}

/// How the rows of a text become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The last one, which has seen all others.
    Last,
}

impl Pooling {
    /// Numbers of a model's embedding, whichever way it is pooled.
    pub fn width(engine: &Engine) -> usize {
        let graph = &engine.model().graph;
        graph.find(LAST_NORM).map_or(0, |value| graph.value(value).width)
    }

    /// File in which sentence-transformers keeps a model's pooling, from the model's folder on.
    pub const FILE: &'static str = POOLING;

    /// The name that requests have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Last => "last",
        }
    }

    /// The pooling of such a file; `None` where it asks for another than these. An error where it is broken.
    pub fn from_file(bytes: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        /// The fields of before version 5 of sentence-transformers, and the one name of after.
        #[derive(Deserialize)]
        struct Modes {
            pooling_mode: Option<String>,
            pooling_mode_mean_tokens: Option<bool>,
            #[serde(default)]
            pooling_mode_lasttoken: bool,
            #[serde(default)]
            pooling_mode_cls_token: bool,
            #[serde(default)]
            pooling_mode_max_tokens: bool,
            #[serde(default)]
            pooling_mode_mean_sqrt_len_tokens: bool,
            #[serde(default)]
            pooling_mode_weightedmean_tokens: bool,
        }
        let modes: Modes = serde_json::from_slice(bytes)?;
        match modes.pooling_mode.as_deref() {
            Some("mean") => return Ok(Some(Self::Mean)),
            Some("lasttoken") => return Ok(Some(Self::Last)),
            Some(_) => return Ok(None),
            None => {}
        }
        let others = modes.pooling_mode_cls_token
            || modes.pooling_mode_max_tokens
            || modes.pooling_mode_mean_sqrt_len_tokens
            || modes.pooling_mode_weightedmean_tokens;
        let mean = modes.pooling_mode_mean_tokens.unwrap_or(!modes.pooling_mode_lasttoken && !others);
        Ok(match (mean, modes.pooling_mode_lasttoken, others) {
            (true, false, false) => Some(Self::Mean),
            (false, true, false) => Some(Self::Last),
            _ => None,
        })
    }
}

/// Rows of a text so far, pooled. Sums are in f64.
#[derive(Debug)]
pub(super) struct Pool {
    pooling: Pooling,
    sum: Vec<f64>,
}

impl Pool {
    pub fn new(pooling: Pooling) -> Self {
        Self { pooling, sum: vec![] }
    }

    /// Takes the next rows, of `width` numbers each.
    pub fn add(&mut self, rows: &[f32], width: usize) {
        let rows = rows.chunks_exact(width.max(1));
        match self.pooling {
            Pooling::Mean => {
                self.sum.resize(width, 0.0);
                for row in rows {
                    self.sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                }
            }
            Pooling::Last => {
                self.sum = rows.last().unwrap_or_default().iter().map(|&x| f64::from(x)).collect();
            }
        }
    }

    /// The vector, of length 1; `None` where rows were not finite. A mean has the direction of its sum.
    pub fn finish(&self) -> Option<Vec<f32>> {
        // By the largest number first, as squares of large numbers overflow and those of small ones vanish.
        let largest = self.sum.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        if !self.sum.iter().all(|x| x.is_finite()) {
            return None;
        }
        let scaled = |x: &f64| if largest > 0.0 { x / largest } else { 0.0 };
        let length = self.sum.iter().map(|x| scaled(x).powi(2)).sum::<f64>().sqrt();
        let scale = if length > 0.0 { length.recip() } else { 0.0 };
        Some(self.sum.iter().map(|x| (scaled(x) * scale) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, Pooling};

    #[test]
    fn the_file_of_sentence_transformers_is_followed() {
        for (text, wanted) in [
            (r#"{"pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true}"#, Some(Pooling::Last)),
            (r#"{"pooling_mode_lasttoken": true}"#, Some(Pooling::Last)),
            (r#"{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}"#, Some(Pooling::Mean)),
            (r#"{"embedding_dimension": 8, "pooling_mode": "lasttoken"}"#, Some(Pooling::Last)),
            (r#"{"pooling_mode": "mean"}"#, Some(Pooling::Mean)),
            (r#"{"pooling_mode": "cls"}"#, None),
            ("{}", Some(Pooling::Mean)),
            (r#"{"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true}"#, None),
            (r#"{"pooling_mode_mean_tokens": true, "pooling_mode_lasttoken": true}"#, None),
        ] {
            assert_eq!(Pooling::from_file(text.as_bytes()).expect(text), wanted, "{text}");
        }
        for broken in ["[", "", r#"{"pooling_mode": 1}"#, r#"{"pooling_mode_lasttoken": "yes"}"#] {
            assert!(Pooling::from_file(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn rows_are_pooled_over_parts_and_the_vector_has_length_one() {
        let pooled = |pooling, parts: &[&[f32]]| {
            let mut pool = Pool::new(pooling);
            parts.iter().for_each(|part| pool.add(part, 2));
            pool.finish()
        };
        assert_eq!(pooled(Pooling::Mean, &[&[1.0, 0.0, 3.0, 6.0], &[2.0, 2.0]]), Some(vec![0.6, 0.8]));
        assert_eq!(pooled(Pooling::Last, &[&[1.0, 0.0, 3.0, 6.0], &[-3.0, 4.0]]), Some(vec![-0.6, 0.8]));
        assert_eq!(pooled(Pooling::Last, &[&[3e38, 4e-30]]).map(|v| v[0]), Some(1.0));
        assert_eq!(pooled(Pooling::Last, &[&[3e-38, 4e-38]]).map(|v| v[0]), Some(0.6));
        assert_eq!(pooled(Pooling::Mean, &[&[0.0, 0.0]]), Some(vec![0.0, 0.0]));
        assert_eq!(pooled(Pooling::Mean, &[&[f32::NAN, 0.0], &[1.0, 1.0]]), None);
    }
}
