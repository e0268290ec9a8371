//! Finished slots: a step is run without the spans that would feed them their own token.

use crate::backend::{StepTable, TOKEN_OF_SLOT};
use crate::state::SamplerState;

/// A step with frozen spans.
pub(super) struct Frozen {
    /// Of each span of the whole step.
    frozen: Vec<bool>,
    /// The step without them.
    pub thawed: StepTable,
    /// The tokens of its rows.
    pub tokens: Vec<u32>,
}

impl Frozen {
    /// Takes a step apart, whose rows have these `tokens`; `None` where nothing is frozen.
    pub fn find(table: &StepTable, tokens: &[u32], samplers: &[SamplerState]) -> Option<Self> {
        let is_frozen = |&[slot, first, ..]: &[u32; 4]| {
            table.rows[first as usize][0] == TOKEN_OF_SLOT && samplers[slot as usize].finished
        };
        let frozen: Vec<bool> = table.spans.iter().map(is_frozen).collect();
        if !frozen.contains(&true) {
            return None;
        }
        let (mut thawed, mut kept) = (StepTable::default(), vec![]);
        for (&[slot, first, position, count], _) in table.spans.iter().zip(&frozen).filter(|(_, frozen)| !**frozen) {
            let (rows, begin) = (first as usize..(first + count) as usize, thawed.rows.len() as u32);
            let span = thawed.spans.len() as u32;
            thawed.spans.push([slot, begin, position, count]);
            thawed.rows.extend(table.rows[rows.clone()].iter().map(|&[token, slot, at, _]| [token, slot, at, span]));
            kept.extend(tokens.get(rows.clone()).unwrap_or_default());
            let outputs = table.outputs.iter().filter(|&&row| rows.contains(&(row as usize)));
            thawed.outputs.extend(outputs.map(|row| row - first + begin));
        }
        Some(Self { frozen, thawed, tokens: kept })
    }

    /// The tokens of all outputs of the whole step, from those of the rest: frozen slots give theirs again.
    pub fn merge(&self, table: &StepTable, rest: Vec<u32>, samplers: &[SamplerState]) -> Vec<u32> {
        let mut rest = rest.into_iter();
        let token = |&row: &u32| {
            let [_, slot, _, span] = table.rows[row as usize];
            if self.frozen[span as usize] { samplers[slot as usize].again() } else { rest.next() }
        };
        table.outputs.iter().filter_map(token).collect()
    }
}
