//! Measurements of a model: perplexity and divergence, scores of a reward model, and engines with random weights for
//! benchmarks.

mod perplexity;
mod random_weights;
mod score;

pub use perplexity::{Perplexity, perplexity};
pub use random_weights::LONGEST_CONTEXT;
