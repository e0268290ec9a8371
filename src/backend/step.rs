//! The unit of work: a ragged list of spans, and the table of words that tells a device about it.

use crate::constants::{COUNT_CAPACITY, COUNT_OUTPUTS, COUNT_ROWS, COUNT_SPANS, TABLE_HEADER};
use crate::graph::Rows;
use crate::state::{SlotId, StateLayout};

pub use crate::constants::{CHUNK_ROWS, TOKEN_OF_SLOT};

/// The tokens of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// These ids.
    Given(Vec<u32>),
    /// One: the token last sampled in the slot, which never leaves the device.
    Sampled,
}

impl Tokens {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Given(ids) => ids.len(),
            Self::Sampled => 1,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which rows of a span give logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// None.
    None,
    /// The last one.
    Last,
    /// So many at the end, or as many as there are.
    Tail(usize),
    /// All.
    All,
}

/// Consecutive tokens of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub slot: SlotId,
    /// Position of the first token.
    pub first: usize,
    /// The tokens.
    pub tokens: Tokens,
    /// Logits wanted. A row that gives logits also samples a token into the slot.
    pub outputs: Outputs,
}

/// Spans of different slots that run together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// In order of their rows. At most one a slot.
    pub spans: Vec<Span>,
}

impl Step {
    /// Tokens in it.
    pub fn rows(&self) -> usize {
        self.spans.iter().map(|s| s.tokens.len()).sum()
    }

    /// Rows of logits it gives.
    pub fn outputs(&self) -> usize {
        let count = |s: &Span| match s.outputs {
            Outputs::None => 0,
            Outputs::Last => 1,
            Outputs::Tail(rows) => rows.min(s.tokens.len()),
            Outputs::All => s.tokens.len(),
        };
        self.spans.iter().map(count).sum()
    }
}

/// A step that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Nothing to do.
    #[error("a step without tokens")]
    Empty,
    /// Two spans of one slot.
    #[error("slot {0} appears twice in one step")]
    Twice(u32),
    /// No such slot.
    #[error("slot {slot} of {slots}")]
    Slot {
        /// The slot.
        slot: u32,
        /// How many there are.
        slots: usize,
    },
    /// Past the end of the context.
    #[error("positions up to {end} do not fit a context of {context}")]
    Context {
        /// One past the last position.
        end: usize,
        /// The context.
        context: usize,
    },
}

/// A step as a device reads it: 32-bit words.
///
/// ```text
/// word 0 .. 4               rows, spans, outputs, capacity in rows
/// then 4 words a row        token, slot, position, span
/// then 4 words a span       slot, first row, first position, rows
/// then 1 word an output     row
/// then 4 words              chunks, chunks of spans that have several, 0, 0
/// then 4 words a chunk      first row, rows, span, chunks of the span still to come
/// ```
/// Each part begins where the program's capacity for the one before ends (the outputs' rounded up to
/// four), so that a kernel's offsets are constants of its program: see [`StepTable::words`].
///
/// A *chunk* is up to [`CHUNK_ROWS`] consecutive rows of one span, what the chunked scans work on. The
/// chunks of spans that have several come first, in order, so that their index also numbers the chunk
/// states that such scans hand on; there are at most [`StepTable::long_chunks`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepTable {
    /// `[token, slot, position, span]`
    pub rows: Vec<[u32; 4]>,
    /// `[slot, first row, first position, rows]`
    pub spans: Vec<[u32; 4]>,
    /// Row of each output.
    pub outputs: Vec<u32>,
    /// `[first row, rows, span, chunks of the span still to come]`
    pub chunks: Vec<[u32; 4]>,
    /// How many of the chunks belong to spans that have several.
    pub long_chunks: usize,
}

impl StepTable {
    /// Notes in which slots a step chooses a token.
    pub(super) fn note_outputs(&self, has_token: &mut [bool]) {
        for &row in &self.outputs {
            let [_, slot, ..] = self.rows[row as usize];
            has_token[slot as usize] = true;
        }
    }

    /// Words in front.
    pub const HEADER: usize = TABLE_HEADER as usize;

    /// Checks a step against a layout and lays it out.
    pub fn new(step: &Step, layout: &StateLayout) -> Result<Self, StepError> {
        let mut table = Self { rows: vec![], spans: vec![], outputs: vec![], chunks: vec![], long_chunks: 0 };
        let mut seen = std::collections::BTreeSet::new();
        for span in &step.spans {
            let (slot, count, first) = (span.slot.0, span.tokens.len(), table.rows.len());
            if count == 0 {
                return Err(StepError::Empty);
            }
            if slot as usize > layout.slots {
                return Err(StepError::Slot { slot, slots: layout.slots });
            }
            if !seen.insert(slot) {
                return Err(StepError::Twice(slot));
            }
            let end = span.first + count;
            if end > layout.context {
                return Err(StepError::Context { end, context: layout.context });
            }
            for i in 0..count {
                let token = match &span.tokens {
                    Tokens::Given(ids) => ids[i],
                    Tokens::Sampled => TOKEN_OF_SLOT,
                };
                table.rows.push([token, slot, (span.first + i) as u32, table.spans.len() as u32]);
            }
            table.spans.push([slot, first as u32, span.first as u32, count as u32]);
            let wanted = match span.outputs {
                Outputs::None => count..count,
                Outputs::Last => count - 1..count,
                Outputs::Tail(rows) => count.saturating_sub(rows)..count,
                Outputs::All => 0..count,
            };
            table.outputs.extend(wanted.map(|i| (first + i) as u32));
        }
        if table.rows.is_empty() {
            return Err(StepError::Empty);
        }
        table.cut_chunks();
        Ok(table)
    }

    fn cut_chunks(&mut self) {
        for long in [true, false] {
            for (span, &[_, first, _, rows]) in self.spans.iter().enumerate() {
                let count = rows.div_ceil(CHUNK_ROWS);
                if (count > 1) != long {
                    continue;
                }
                for i in 0..count {
                    let offset = i * CHUNK_ROWS;
                    let length = CHUNK_ROWS.min(rows - offset);
                    self.chunks.push([first + offset, length, span as u32, count - 1 - i]);
                }
            }
            if long {
                self.long_chunks = self.chunks.len();
            }
        }
    }

    /// Most chunks that can belong to spans of several, among `rows` rows.
    pub fn most_long_chunks(rows: usize) -> usize {
        // The worst: every span is one row longer than a chunk.
        let (chunk, spans) = (CHUNK_ROWS as usize, rows / (CHUNK_ROWS as usize + 1));
        if spans == 0 { 0 } else { rows / chunk + spans }
    }

    /// Rows in use of a value.
    pub fn count(&self, rows: Rows) -> usize {
        match rows {
            Rows::All => self.rows.len(),
            Rows::Outputs => self.outputs.len(),
        }
    }

    /// Word at which the spans begin, in a program for `rows` rows.
    pub fn spans_at(rows: usize) -> usize {
        Self::HEADER + 4 * rows
    }

    /// Word at which the outputs begin. There are never more spans than rows.
    pub fn outputs_at(rows: usize) -> usize {
        Self::spans_at(rows) + 4 * rows
    }

    /// Word at which the chunks begin.
    pub fn chunks_at(rows: usize, outputs: usize) -> usize {
        (Self::outputs_at(rows) + outputs).next_multiple_of(4)
    }

    /// Words of the table of a program. There are never more chunks than rows.
    pub fn len(rows: usize, outputs: usize) -> usize {
        Self::chunks_at(rows, outputs) + 4 + 4 * rows
    }

    /// The table as the words of a program for `rows` rows and `outputs` outputs. Unused words are 0.
    pub fn words(&self, rows: usize, outputs: usize) -> Vec<u32> {
        let mut words = vec![0; Self::len(rows, outputs)];
        for (word, count) in [
            (COUNT_ROWS, self.rows.len()),
            (COUNT_SPANS, self.spans.len()),
            (COUNT_OUTPUTS, self.outputs.len()),
            (COUNT_CAPACITY, rows),
        ] {
            words[word as usize] = count as u32;
        }
        words[Self::HEADER..][..4 * self.rows.len()].copy_from_slice(self.rows.as_flattened());
        words[Self::spans_at(rows)..][..4 * self.spans.len()].copy_from_slice(self.spans.as_flattened());
        words[Self::outputs_at(rows)..][..self.outputs.len()].copy_from_slice(&self.outputs);
        let chunks = &mut words[Self::chunks_at(rows, outputs)..];
        chunks[..2].copy_from_slice(&[self.chunks.len() as u32, self.long_chunks as u32]);
        chunks[4..][..4 * self.chunks.len()].copy_from_slice(self.chunks.as_flattened());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_ROWS, StepTable};

    #[test]
    fn every_part_of_the_words_begins_where_the_capacity_before_it_ends() {
        let long = CHUNK_ROWS + 3;
        let mut table = StepTable { spans: vec![[2, 0, 7, long], [0, long, 5, 1]], ..StepTable::default() };
        table.rows = (0..=long).map(|row| [100 + row, 1, row, 0]).collect();
        table.outputs = vec![long - 1, long];
        table.cut_chunks();
        // More room than the step takes, in both.
        let (rows, outputs) = (64, 13);
        let words = table.words(rows, outputs);
        assert_eq!(words.len(), StepTable::len(rows, outputs));
        assert_eq!(words[..4], [long + 1, 2, 2, 64]);
        assert_eq!(words[4..][..4 * table.rows.len()], *table.rows.as_flattened());
        assert_eq!(words[4 + 4 * rows..][..8], [2, 0, 7, long, 0, long, 5, 1]);
        assert_eq!(words[4 + 8 * rows..][..2], [long - 1, long]);
        let chunks = &words[4 + 8 * rows + 16..];
        assert_eq!(chunks[..4], [3, 2, 0, 0]);
        assert_eq!(chunks[4..][..12], [0, CHUNK_ROWS, 0, 1, CHUNK_ROWS, 3, 0, 0, long, 1, 1, 0]);
        assert_eq!(chunks.len(), 4 + 4 * rows);
    }
}
