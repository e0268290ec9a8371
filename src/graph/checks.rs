//! Comparisons that the checks of ops share; each error names what does not fit.

use super::{Graph, KvSpec, Rows, StateId, ValueId, WeightId};

/// Refuses a size that is not the one it must be.
pub(super) fn equal(what: &str, got: usize, wanted: usize) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what} is {got}, must be {wanted}")) }
}

/// Refuses a number of parts that a size cannot be cut into.
pub(super) fn divides(what: &str, part: usize, whole: usize) -> Result<(), String> {
    let fits = part > 0 && whole.is_multiple_of(part);
    if fits { Ok(()) } else { Err(format!("{part} {what} do not divide {whole}")) }
}

impl Graph {
    /// Columns of a value.
    pub(super) fn width(&self, value: ValueId) -> usize {
        self.value(value).width
    }

    pub(super) fn check_length(&self, what: &str, weight: WeightId, wanted: usize) -> Result<(), String> {
        equal(&format!("length of {what}"), self.weight(weight).len(), wanted)
    }

    /// Refuses a value that has a row for every token of the step.
    pub(super) fn check_outputs(&self, value: ValueId) -> Result<(), String> {
        let value = self.value(value);
        match value.rows {
            Rows::Outputs => Ok(()),
            Rows::All => Err(format!("`{}` must have one row an output, not one a token", value.name)),
        }
    }

    pub(super) fn check_kv(&self, state: StateId) -> Result<&KvSpec, String> {
        self.kv(state).ok_or_else(|| format!("`{}` is not a KV state", self.state(state).name))
    }

    /// The shape of a recurrent state of `N` axes.
    pub(super) fn check_recurrent<const N: usize>(&self, state: StateId) -> Result<[usize; N], String> {
        let state_of = |id| &self.state(id).name;
        self.recurrent(state).ok_or_else(|| format!("`{}` is not a recurrent state of {N} axes", state_of(state)))
    }

    /// `d_conv` of the memory of a convolution of so many channels.
    pub(super) fn check_conv(&self, state: StateId, channels: usize) -> Result<usize, String> {
        match self.conv(state) {
            Some((kept, d_conv)) if kept == channels && d_conv > 1 => Ok(d_conv),
            _ => {
                let state = self.state(state);
                Err(format!("`{}` is {:?}, wanted for a convolution of {channels} channels", state.name, state.kind))
            }
        }
    }
}
