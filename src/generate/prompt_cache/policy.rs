//! Where checkpoints are made, and which of them go first.

use crate::runtime::PREFILL_ROWS;
use crate::state::{CheckpointKind, StateLayout};

/// Worth of one token that need not be read again. A system prompt is followed by every conversation, the end of a text
/// by its next turn, a place within it by an edit only.
fn weight(kind: CheckpointKind, ends_text: bool) -> f64 {
    match kind {
        CheckpointKind::System => 16.0,
        _ if ends_text => 8.0,
        CheckpointKind::Branch | CheckpointKind::Message => 2.0,
        CheckpointKind::Reply | CheckpointKind::Stride => 1.0,
    }
}

/// Score of a checkpoint: tokens that it saves, for each byte, by how long ago it was used, in turns.
pub(super) fn score(kind: CheckpointKind, ends_text: bool, tokens_saved: usize, bytes: u64, age: u64) -> f64 {
    weight(kind, ends_text) * tokens_saved as f64 / (bytes.max(1) as f64) / (age as f64 + 1.0)
}

/// Tokens between two checkpoints of a long prompt: as many as have keys and values of a block's size, so that the
/// checkpoints of a text take as much memory as its keys and values at most. No fewer than a step reads at once, and no
/// more than 8 steps where a model has little attention or none: reading those again takes seconds.
pub(super) fn stride(layout: &StateLayout) -> usize {
    let bytes = layout.bytes();
    let worth = bytes.fixed().checked_div(bytes.per_token).unwrap_or(u64::MAX);
    usize::try_from(worth).unwrap_or(usize::MAX).clamp(PREFILL_ROWS, 8 * PREFILL_ROWS)
}

/// Fewest tokens for which a prompt's reading is interrupted, to make a checkpoint that nobody asked for.
const WORTH_A_STOP: usize = 16;

/// A place in a prompt where a checkpoint is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Tokens of the prompt before it.
    pub length: usize,
    /// The reason.
    pub kind: CheckpointKind,
}

/// The places at which the reading of a prompt stops for a checkpoint: of a prompt of `length` tokens, `cached` of which
/// need not be read, `matched` of which are known from other texts, with the caller's marks. In order, each once.
pub(super) fn stops(length: usize, cached: usize, matched: usize, marks: &[Mark], stride: usize) -> Vec<Mark> {
    let mut stops: Vec<Mark> =
        marks.iter().copied().filter(|mark| mark.length > cached && mark.length < length).collect();
    stops.sort_by_key(|mark| (mark.length, mark.kind));
    stops.dedup_by_key(|mark| mark.length);
    let far = |stops: &[Mark], at: usize| {
        let ends = stops.iter().map(|mark| mark.length).chain([cached, length]);
        ends.into_iter().all(|end| end.abs_diff(at) >= WORTH_A_STOP)
    };
    if matched > cached && matched < length && far(&stops, matched) {
        stops.push(Mark { length: matched, kind: CheckpointKind::Branch });
        stops.sort_by_key(|mark| mark.length);
    }
    let mut all: Vec<Mark> = vec![];
    let mut last = cached;
    for end in stops.into_iter().map(Some).chain([None]) {
        let until = end.map_or(length, |mark| mark.length);
        while until - last > stride + stride / 2 {
            last += stride;
            all.push(Mark { length: last, kind: CheckpointKind::Stride });
        }
        last = until;
        all.extend(end);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(length: usize, kind: CheckpointKind) -> Mark {
        Mark { length, kind }
    }

    #[test]
    fn a_prompt_is_read_in_as_many_parts_as_it_has_places_of_worth() {
        use CheckpointKind::{Branch, Message, Stride, System};
        let marks = [mark(90, Message), mark(20, System), mark(20, Message), mark(100, Message)];
        assert_eq!(stops(100, 0, 0, &marks, 1000), [mark(20, System), mark(90, Message)]);
        assert_eq!(stops(100, 20, 50, &marks, 1000), [mark(50, Branch), mark(90, Message)]);
        assert_eq!(stops(100, 20, 80, &marks, 1000), [mark(90, Message)], "too near to what is kept anyway");
        assert_eq!(stops(100, 90, 100, &marks, 1000), [], "an exact repeat");
        let lengths = |stops: Vec<Mark>| stops.iter().map(|mark| mark.length).collect::<Vec<_>>();
        assert_eq!(lengths(stops(1000, 0, 0, &[], 256)), [256, 512, 768]);
        assert_eq!(lengths(stops(1000, 0, 0, &[mark(990, Message)], 256)), [256, 512, 768, 990]);
        assert_eq!(stops(600, 100, 0, &[], 256), [mark(356, Stride)]);
    }

    #[test]
    fn what_is_used_by_many_goes_last() {
        let end = score(CheckpointKind::Reply, true, 100, 1000, 2);
        let score = |kind, tokens, age| score(kind, false, tokens, 1000, age);
        assert!(end > score(CheckpointKind::Message, 100, 2) && end < score(CheckpointKind::System, 100, 2));
        assert!(score(CheckpointKind::System, 100, 5) > score(CheckpointKind::Message, 100, 0));
        assert!(score(CheckpointKind::Message, 100, 1) >= score(CheckpointKind::Reply, 100, 1));
        assert!(score(CheckpointKind::Reply, 100, 1) > score(CheckpointKind::Reply, 100, 2));
        assert!(score(CheckpointKind::Stride, 200, 1) > score(CheckpointKind::Stride, 100, 1));
    }
}
