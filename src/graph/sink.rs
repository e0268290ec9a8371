//! Takers of a graph's weights: a backend, a test, and a device that quantises for somebody else.

use std::error::Error;

use futures::future::{LocalBoxFuture, ready};

use super::{RowBlock, SourceBlock, WeightDesc, WeightId};
use crate::formats::Quantised;

/// An error of whoever takes weights or files; a backend's can be had back with `downcast`.
pub type SinkError = Box<dyn Error + Send + Sync>;

/// Rows that are not quantised yet came to somebody who [does not quantise](WeightSink::quantises).
#[derive(Debug, thiserror::Error)]
#[error("rows in {format} for weight {weight}: it does not quantise")]
pub struct NotQuantised {
    /// The rows' format.
    pub format: &'static str,
    /// The weight's number.
    pub weight: u32,
}

/// Takes the weights of a graph, in order. Blocks of a weight come in order, without gaps, and all of them before
/// the next weight is created.
pub trait WeightSink {
    /// What can go wrong.
    type Error: From<NotQuantised> + 'static;

    /// Makes room for a weight. Formats: those of [`WeightFormat`](super::WeightFormat); vectors are f32.
    fn create_weight(&mut self, id: WeightId, desc: &WeightDesc) -> Result<(), Self::Error>;

    /// Fills rows of a weight. Returns when there is room for more.
    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>)
    -> LocalBoxFuture<'a, Result<(), Self::Error>>;

    /// Whether it quantises rows itself: [`quantise_weight`](Self::quantise_weight).
    fn quantises(&self) -> bool {
        false
    }

    /// Fills rows of a quantised weight, all of whose rows come in this way, with numbers that are not quantised
    /// yet, all of them finite in f16. Rounds as [`quantise_row`](crate::formats::quantise_row), but for the
    /// last bits of a device's arithmetic: where one turns a tie, a search may end with other codes that fit
    /// about as well. Returns when there is room for more.
    fn quantise_weight<'a>(
        &'a mut self,
        id: WeightId,
        block: SourceBlock<'a>,
    ) -> LocalBoxFuture<'a, Result<(), Self::Error>> {
        Box::pin(ready(Err(NotQuantised { format: block.format.name(), weight: id.0 }.into())))
    }
}

/// Quantises rows that somebody else keeps: a device, for a conversion.
pub trait RowQuantiser {
    /// Rows of `columns` numbers, all of them finite in f16, as [`quantise_row`](crate::formats::quantise_row) lays
    /// them out. Scales may differ from its own in the last bits. `block.first` means nothing.
    fn quantise<'a>(
        &'a mut self,
        format: Quantised,
        columns: usize,
        block: SourceBlock<'a>,
    ) -> LocalBoxFuture<'a, Result<Vec<u8>, SinkError>>;
}
