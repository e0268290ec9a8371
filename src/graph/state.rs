//! What a sequence remembers, as the graph declares it. Layout and bytes are `crate::state`'s.

/// Keys and values of one producer layer. Keys are stored rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvSpec {
    /// KV heads.
    pub heads: usize,
    /// Width of a key.
    pub key_width: usize,
    /// Width of a value.
    pub value_width: usize,
    /// Positions `0..pinned` are never forgotten and are the same for every sequence (meta tokens).
    pub pinned: usize,
    /// Positions remembered after the pinned ones; `None`: all of them.
    pub window: Option<usize>,
}

/// The kinds of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// Attention's keys and values.
    Kv(KvSpec),
    /// The last `d_conv - 1` inputs of a convolution: f32 `[d_conv - 1, channels]`, oldest first.
    Conv {
        /// Channels.
        channels: usize,
        /// Rows that the kernel reads.
        d_conv: usize,
    },
    /// A recurrent state: f32, row-major.
    Recurrent {
        /// Its logical shape: `[channels, d_state]`, `[heads, head_dim, d_state]` or `[heads, key_width, value_width]`.
        shape: Vec<usize>,
        /// Which of the last two axes holds channels: numbers that never look at one another, and that a backend
        /// may want side by side. `head_dim` of a scan: the one before the last; `value_width`: the last.
        channels_last: bool,
    },
}

/// One piece of a sequence's memory.
#[derive(Clone, Debug)]
pub struct StateSpec {
    /// `layers.3.kv`, `layers.3.conv`, `layers.3.ssm`
    pub name: String,
    /// The layer that owns it.
    pub layer: usize,
    /// What it is.
    pub kind: StateKind,
}
