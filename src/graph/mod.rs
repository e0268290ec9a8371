//! The model as data: values shaped in terms of rows, primitive ops from one closed set.
//!
//! A [`Graph`] knows nothing of devices. A backend compiles it for a number of rows; what a *row* is
//! (one token of one slot) is decided anew every step by the step table (see `backend::step`).
//!
//! All values are `f32`, row-major, `[rows, width]`. Weights are named by [`WeightRecipe`]s, a
//! sequence's memory by [`StateSpec`]s; both are referred to by index.

mod builder;
mod checks;
mod op;
pub mod ops;
mod plan;
mod recipe;
pub mod regions;
mod sink;
mod state;
mod uses;
mod validate;
mod weight;

pub use builder::GraphBuilder;
pub use op::{Op, Variant};
pub use ops::{ExpertChoice, Function, NormKind, Primitive, Routing};
pub use plan::{BufferPlan, PlannedBuffer, pitch, plan};
pub use recipe::{Map, Part, WeightClass, WeightRecipe};
pub use regions::Region;
pub use sink::{NotQuantised, RowQuantiser, SinkError, WeightSink};
pub use state::{KvSpec, StateKind, StateSpec};
pub use uses::{Node, Uses};
pub use validate::GraphError;
pub use weight::{RowBlock, SourceBlock, WeightDesc, WeightFormat};

/// Index of a [`Value`] in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);
/// Index of a [`WeightRecipe`] in [`Graph::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightId(pub u32);
/// Index of a [`StateSpec`] in [`Graph::states`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub u32);
/// Index of a [`Rotary`] in [`Graph::rotaries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RotaryId(pub u32);

/// Index of an [`Op`] in [`Graph::ops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u32);

/// How many rows a value has in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One for every token of the step.
    All,
    /// One for every row whose logits are wanted.
    Outputs,
}

/// An activation: `f32 [rows, width]`.
#[derive(Clone, Debug)]
pub struct Value {
    /// Where it comes from, for errors, traces and tests (`hidden.3`, `layers.3.conv`).
    pub name: String,
    /// Columns.
    pub width: usize,
    /// Which rows.
    pub rows: Rows,
}

/// Columns `offset .. offset + width` of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The value looked into.
    pub value: ValueId,
    /// First column.
    pub offset: usize,
    /// Number of columns.
    pub width: usize,
}

impl View {
    /// All `width` columns of a value.
    pub fn all(value: ValueId, width: usize) -> Self {
        Self { value, offset: 0, width }
    }

    /// All columns of a value, however many there are: of an operand that is read as a whole.
    fn entire(value: ValueId) -> Self {
        Self::all(value, usize::MAX)
    }

    /// Whether it stands for all columns, however many there are.
    fn is_entire(&self) -> bool {
        self.width == usize::MAX
    }
}

/// Frequencies of a rotary embedding; backends tabulate `cos` and `sin` on the host in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Radians per position of each rotated pair. f32, as the reference rounds them.
    pub inverse_frequencies: Vec<f32>,
    /// Factor of `cos` and `sin`: YaRN's attention factor; 1 without scaling.
    pub scale: f32,
}

impl Rotary {
    /// `inverse_frequencies[j] = base^(-2j / rotated)` for the `rotated / 2` pairs.
    pub fn from_base(base: f64, rotated: usize) -> Self {
        let frequency = |j| base.powf(-2.0 * j as f64 / rotated as f64) as f32;
        Self { inverse_frequencies: (0..rotated / 2).map(frequency).collect(), scale: 1.0 }
    }

    /// `scale * [cos, sin]` pairs for positions `0..positions`: `f32 [positions, pairs, 2]`.
    pub fn table(&self, positions: usize) -> Vec<f32> {
        let mut table = Vec::with_capacity(positions * self.inverse_frequencies.len() * 2);
        for position in 0..positions {
            for &frequency in &self.inverse_frequencies {
                let (sin, cos) = (position as f64 * f64::from(frequency)).sin_cos();
                table.extend([cos as f32, sin as f32].map(|x| x * self.scale));
            }
        }
        table
    }
}

/// A whole model: what is computed, from which weights, over which memory.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Activations, by [`ValueId`].
    pub values: Vec<Value>,
    /// Weights, by [`WeightId`].
    pub weights: Vec<WeightRecipe>,
    /// A sequence's memory, by [`StateId`].
    pub states: Vec<StateSpec>,
    /// Rotary embeddings, by [`RotaryId`].
    pub rotaries: Vec<Rotary>,
    /// In the order of execution.
    pub ops: Vec<Op>,
    /// Blocks of ops that have a name.
    pub regions: Vec<Region>,
    /// Values without a producer: written from outside, for tests of single ops.
    pub inputs: Vec<ValueId>,
    /// `f32 [outputs, vocabulary]`, where the graph ends in logits.
    pub logits: Option<ValueId>,
}

impl Graph {
    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The recipe behind an id.
    pub fn weight(&self, id: WeightId) -> &WeightRecipe {
        &self.weights[id.0 as usize]
    }

    /// The memory behind an id.
    pub fn state(&self, id: StateId) -> &StateSpec {
        &self.states[id.0 as usize]
    }

    /// The KV memory behind an id; `None` when it is of another kind.
    pub fn kv(&self, id: StateId) -> Option<&KvSpec> {
        match &self.state(id).kind {
            StateKind::Kv(kv) => Some(kv),
            _ => None,
        }
    }

    /// Channels and `d_conv` of the convolution memory behind an id; `None` when it is of another kind.
    pub fn conv(&self, id: StateId) -> Option<(usize, usize)> {
        match self.state(id).kind {
            StateKind::Conv { channels, d_conv } => Some((channels, d_conv)),
            _ => None,
        }
    }

    /// Shape of the recurrent state behind an id; `None` when it is of another kind or number of axes.
    pub fn recurrent<const N: usize>(&self, id: StateId) -> Option<[usize; N]> {
        match &self.state(id).kind {
            StateKind::Recurrent { shape, .. } => shape.as_slice().try_into().ok(),
            _ => None,
        }
    }

    /// The rotary behind an id.
    pub fn rotary(&self, id: RotaryId) -> &Rotary {
        &self.rotaries[id.0 as usize]
    }

    /// The whole of a value as a view.
    pub fn whole(&self, value: ValueId) -> View {
        View { value, offset: 0, width: self.value(value).width }
    }

    /// Looks a value up by its name (the first of that name).
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name).map(|i| ValueId(i as u32))
    }

    /// Parameters that the checkpoint holds, each counted once however many recipes use it.
    pub fn parameters(&self) -> u64 {
        let mut seen = std::collections::BTreeMap::<(&str, usize, usize), u64>::new();
        for part in self.weights.iter().flat_map(|w| &w.parts) {
            let count = part.rows.len() as u64 * part.columns() as u64;
            seen.insert((&part.tensor, part.rows.start, part.rows.end), count);
        }
        seen.values().sum()
    }
}
