//! A slot's memory taken out of a device, in a canonical layout that no device's limits show in.

use super::SamplerState;

/// One tensor of a slot's memory, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// `layers.3.kv.k`, `layers.3.kv.v`, `layers.3.conv`, `layers.3.ssm`
    pub name: String,
    /// KV: `[positions, heads, width]`; conv: `[d_conv - 1, channels]`, oldest first; recurrent: its own.
    pub shape: Vec<usize>,
    /// KV only: the position of each row, ascending.
    pub positions: Vec<u32>,
    /// Row-major numbers.
    pub data: Vec<f32>,
}

/// Snapshot of a slot: its state and its sampler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotState {
    /// The next position.
    pub position: usize,
    /// Two tensors for a KV state, one for any other, in any order.
    pub tensors: Vec<StateTensor>,
    /// The sampler, with the tokens chosen so far: a text goes on as if it had never been interrupted.
    pub sampler: SamplerState,
}

impl SlotState {
    /// Looks a tensor up by its name.
    pub fn tensor(&self, name: &str) -> Option<&StateTensor> {
        self.tensors.iter().find(|t| t.name == name)
    }
}
