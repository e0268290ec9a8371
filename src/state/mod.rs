//! Layouts of slots: pages, rings, recurrent states. No device handles.
//!
//! **One slot is one sequence's memory.** For each KV state a backend holds one pool of rows for keys
//! and one for values: first the `pinned` rows, the same for every sequence and stored once, then
//! either pages (global attention) or one ring a slot (a window). Every backend finds the row of a
//! position by [`KvLayout::row`]. Convolution columns and recurrent states lie slot after slot, in f32;
//! behind those of the users' slots lies the *initial state* ([`StateLayout::initial_slot`]): a sequence's state when
//! nothing but the pinned positions has been read. A slot begins as a copy of it.

mod pages;
mod sampler;
mod slot_state;
mod snapshot;

use half::f16;

use crate::constants;
use crate::graph::{Graph, KvSpec, StateKind, StateSpec};

pub use pages::{PageAllocator, PagesExhausted};
pub use sampler::{
    GREEDY_BELOW, LAST_TOKEN, MOST_ENDS, NO_TOKEN, SAMPLER_WORDS, SEEN, Sampler, SamplerError, SamplerState,
    mask_words, token_biases, token_counts, unusable,
};
pub use slot_state::{SlotState, StateTensor};
pub use snapshot::{
    CheckpointKind, Fingerprint, SavedCheckpoint, Snapshot, SnapshotBytes, SnapshotError, SnapshotSummary, SnapshotText,
};

/// Index of a slot. The initial state's is `StateLayout::slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// Storage format of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[derive(serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvFormat {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number, two to a word.
    F16,
}

impl KvFormat {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A key or a value as [`KvFormat::F16`] keeps it, rounded to nearest even. What f16 does not hold, from 65520 on,
/// becomes NaN on every backend: with an infinity a score may be minus infinity, and the key would be passed over in
/// silence; NaN reaches the logits, which are then refused.
pub fn kv_f16(x: f32) -> f16 {
    let half = f16::from_f32(x);
    if half.is_infinite() { f16::NAN } else { half }
}

/// Rows of a page, and the positions it covers.
pub const PAGE_ROWS: usize = constants::PAGE_ROWS as usize;

/// Rows of a ring besides its window. A span of so few rows may enter its ring before others read it:
/// what it overwrites is out of their sight. Saves decode a kernel a layer.
pub const RING_SLACK: usize = 8;

/// Mapping of the positions after the pinned ones to pool rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// Through the slot's page table.
    Pages,
    /// `rows` rows a slot, position modulo rows.
    Ring {
        /// Rows of one slot's ring.
        rows: usize,
    },
}

/// Mapping of one KV state's positions to the rows of its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Rows in front, shared by all slots.
    pub pinned: usize,
    /// Mapping of the positions after them.
    pub addressing: Addressing,
    /// Positions after the pinned ones that are remembered; a ring may have room for more.
    pub window: usize,
}

impl KvLayout {
    /// The pool row of `position` in a slot whose page table is `pages`.
    pub fn row(&self, slot: SlotId, pages: &[u32], position: usize) -> usize {
        let Some(offset) = position.checked_sub(self.pinned) else { return position };
        self.pinned
            + match self.addressing {
                Addressing::Pages => pages[offset / PAGE_ROWS] as usize * PAGE_ROWS + offset % PAGE_ROWS,
                Addressing::Ring { rows } => slot.0 as usize * rows + offset % rows,
            }
    }

    /// The runs of consecutive pool rows that hold what a slot remembers when `position` is the next, in order.
    pub fn runs(&self, slot: SlotId, pages: &[u32], position: usize) -> Vec<Run> {
        let mut runs = vec![Run { position: 0, row: 0, rows: self.pinned.min(position) }];
        let stride = match self.addressing {
            Addressing::Pages => PAGE_ROWS,
            Addressing::Ring { rows } => rows,
        };
        let mut at = self.oldest(position);
        while at < position {
            // Up to the end of the page, or of the ring.
            let rows = (stride - (at - self.pinned) % stride).min(position - at);
            runs.push(Run { position: at, row: self.row(slot, pages, at), rows });
            at += rows;
        }
        runs.retain(|run| run.rows > 0);
        runs
    }

    /// Oldest position after the pinned ones that is remembered when `position` is the next.
    pub fn oldest(&self, position: usize) -> usize {
        position.saturating_sub(self.window).max(self.pinned)
    }
}

/// Consecutive pool rows that hold consecutive positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first position.
    pub position: usize,
    /// Its row.
    pub row: usize,
    /// Count of rows.
    pub rows: usize,
}

impl Run {
    /// Its part from `position` on; `None` where nothing is left.
    pub fn from(self, position: usize) -> Option<Self> {
        let before = position.saturating_sub(self.position);
        let rows = self.rows.checked_sub(before).filter(|&rows| rows > 0)?;
        Some(Self { position: self.position + before, row: self.row + before, rows })
    }

    /// Its positions.
    pub fn positions(&self) -> std::ops::Range<u32> {
        self.position as u32..(self.position + self.rows) as u32
    }
}

/// Memory of a layout by kind, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateBytes {
    /// Rows of the pinned positions, shared by all slots.
    pub pinned: u64,
    /// Rings of windowed attention, one slot.
    pub rings: u64,
    /// Global attention, one slot, one token.
    pub per_token: u64,
    /// Convolution columns, one slot.
    pub conv: u64,
    /// Recurrent states, one slot.
    pub recurrent: u64,
}

impl StateBytes {
    /// Bytes of one slot that do not depend on its length, without the shared pinned rows.
    pub fn fixed(&self) -> u64 {
        self.rings + self.conv + self.recurrent
    }

    /// Bytes of one slot after `tokens` tokens, pinned rows not counted.
    pub fn at(&self, tokens: u64) -> u64 {
        self.fixed() + self.per_token * tokens
    }
}

/// The memory of all slots of an engine.
#[derive(Clone, Debug)]
pub struct StateLayout {
    /// State declarations, in the graph's order.
    pub states: Vec<StateSpec>,
    /// Sequences held at the same time.
    pub slots: usize,
    /// Positions of one sequence, pinned ones included.
    pub context: usize,
    /// Positions `0..pinned` are shared by all slots.
    pub pinned: usize,
    /// Pages of each global pool.
    pub pages: usize,
    /// Storage format of keys and values.
    pub kv_format: KvFormat,
    /// Tokens that a slot chooses from; 0 where nothing is chosen.
    pub vocabulary: usize,
}

impl StateLayout {
    /// The layout for `slots` sequences of up to `context` positions.
    pub fn new(graph: &Graph, slots: usize, context: usize, kv_format: KvFormat) -> Self {
        let kv = |s: &StateSpec| if let StateKind::Kv(kv) = &s.kind { Some(kv.clone()) } else { None };
        let pinned = graph.states.iter().filter_map(kv).map(|kv| kv.pinned).max().unwrap_or(0);
        let vocabulary = graph.logits.map_or(0, |logits| graph.value(logits).width);
        let states = graph.states.clone();
        let mut layout = Self { states, slots, context, pinned, pages: 0, kv_format, vocabulary };
        layout.pages = slots * layout.pages_per_slot();
        layout
    }

    /// The slot of the initial state, behind the users' slots.
    pub fn initial_slot(&self) -> SlotId {
        SlotId(self.slots as u32)
    }

    /// Length of a slot's page table.
    pub fn pages_per_slot(&self) -> usize {
        self.context.saturating_sub(self.pinned).div_ceil(PAGE_ROWS)
    }

    /// Mapping of a KV state's positions to rows.
    pub fn kv(&self, spec: &KvSpec) -> KvLayout {
        let after = self.context.saturating_sub(spec.pinned).max(1);
        let addressing = match spec.window {
            Some(window) if window + RING_SLACK < after => Addressing::Ring { rows: window + RING_SLACK },
            Some(_) => Addressing::Ring { rows: after },
            None => Addressing::Pages,
        };
        KvLayout { pinned: spec.pinned, addressing, window: spec.window.unwrap_or(usize::MAX) }
    }

    /// Rows of the pools of a KV state.
    pub fn kv_rows(&self, spec: &KvSpec) -> usize {
        spec.pinned
            + match self.kv(spec).addressing {
                Addressing::Pages => self.pages * PAGE_ROWS,
                Addressing::Ring { rows } => self.slots * rows,
            }
    }

    /// Shape of one slot in a convolution or recurrent state; empty for KV.
    pub fn shape(kind: &StateKind) -> Vec<usize> {
        match kind {
            StateKind::Kv(_) => vec![],
            StateKind::Conv { channels, d_conv } => vec![d_conv - 1, *channels],
            StateKind::Recurrent { shape, .. } => shape.clone(),
        }
    }

    /// Numbers of one slot in a convolution or recurrent state; 0 for KV.
    pub fn elements(kind: &StateKind) -> usize {
        match kind {
            StateKind::Kv(_) => 0,
            kind => Self::shape(kind).iter().product(),
        }
    }

    /// Bytes by kind.
    pub fn bytes(&self) -> StateBytes {
        let mut bytes = StateBytes::default();
        for state in &self.states {
            let fixed = Self::elements(&state.kind) as u64 * 4;
            match &state.kind {
                StateKind::Kv(kv) => {
                    let row = (kv.heads * (kv.key_width + kv.value_width) * self.kv_format.bytes()) as u64;
                    bytes.pinned += row * kv.pinned as u64;
                    match self.kv(kv).addressing {
                        Addressing::Pages => bytes.per_token += row,
                        Addressing::Ring { rows } => bytes.rings += row * rows as u64,
                    }
                }
                StateKind::Conv { .. } => bytes.conv += fixed,
                StateKind::Recurrent { .. } => bytes.recurrent += fixed,
            }
        }
        bytes
    }

    /// Bytes of a block: what one slot remembers outside its pages.
    pub fn block_bytes(&self) -> u64 {
        self.bytes().fixed()
    }

    /// Bytes of the largest buffer that a state takes: of keys or of values, or of all slots' numbers.
    pub fn largest_piece(&self, state: &StateSpec) -> u64 {
        match &state.kind {
            StateKind::Kv(kv) => {
                let width = kv.heads * kv.key_width.max(kv.value_width) * self.kv_format.bytes();
                self.kv_rows(kv) as u64 * width as u64
            }
            kind => ((self.slots + 1) * Self::elements(kind)) as u64 * 4,
        }
    }

    /// Bytes that a backend allocates for all slots and the initial state.
    pub fn allocated(&self) -> u64 {
        let bytes = self.bytes();
        let slots = self.slots as u64;
        bytes.pinned
            + slots * bytes.rings
            + (self.pages * PAGE_ROWS) as u64 * bytes.per_token
            + (slots + 1) * (bytes.conv + bytes.recurrent)
    }
}
