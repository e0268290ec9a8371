//! How a graph's weight comes from checkpoint tensors. Data, applied by the checkpoint's loader.

use std::ops::Range;

/// How a weight may be stored. Which is which was decided by what quantising it costs: `docs/quantisation.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightClass {
    /// `[outputs, inputs]` of a linear layer: stored in the format asked for.
    Matrix,
    /// An embedding or a head: at least 8 bits a number.
    Embedding,
    /// A small matrix on which much depends (time steps, routers): never quantised.
    HighPrecision,
    /// Norms, biases, convolutions, decay and skip terms: always f32.
    Vector,
}

/// An elementwise change, made in f32 while loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// `x`
    Identity,
    /// `-exp(x)`: the decay `A` from a checkpoint's `A_log`.
    NegExp,
    /// `1 + x`: norms stored zero-centred.
    AddOne,
}

impl Map {
    /// The change itself.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::NegExp => -x.exp(),
            Self::AddOne => 1.0 + x,
        }
    }
}

/// Rows `rows` of a checkpoint tensor seen as `[product of the others, last]` of its dimensions (of a single one as
/// `[first, 1]`), mapped, then scaled.
#[derive(Clone, Debug)]
pub struct Part {
    /// The tensor's name in the checkpoint.
    pub tensor: String,
    /// The shape that the config promises; the loader refuses another.
    pub shape: Vec<usize>,
    /// Rows taken, in order.
    pub rows: Range<usize>,
    /// Change made before the scale.
    pub map: Map,
    /// Factor folded into the weight.
    pub scale: f32,
}

impl Part {
    /// All rows of a tensor, as they are.
    pub fn all(tensor: impl Into<String>, shape: &[usize]) -> Self {
        let part = Self { tensor: tensor.into(), shape: shape.to_vec(), rows: 0..0, map: Map::Identity, scale: 1.0 };
        let rows = 0..part.height();
        part.rows(rows)
    }

    /// The same part with other rows.
    pub fn rows(mut self, rows: Range<usize>) -> Self {
        self.rows = rows;
        self
    }

    /// The same part with a factor folded in.
    pub fn scaled(mut self, scale: f32) -> Self {
        self.scale *= scale;
        self
    }

    /// The same part, mapped.
    pub fn mapped(mut self, map: Map) -> Self {
        self.map = map;
        self
    }

    /// Columns: the last of several dimensions.
    pub fn columns(&self) -> usize {
        match self.shape.as_slice() {
            [_, .., last] => *last,
            _ => 1,
        }
    }

    /// Rows of the whole tensor.
    pub fn height(&self) -> usize {
        match self.shape.as_slice() {
            [rows] => *rows,
            [others @ .., _] => others.iter().product(),
            [] => 0,
        }
    }

    /// Whether the tensor's numbers go through unchanged.
    pub fn is_verbatim(&self) -> bool {
        self.map == Map::Identity && self.scale == 1.0
    }
}

/// A weight `[rows, columns]`: the rows of its parts, one part under the other.
#[derive(Clone, Debug)]
pub struct WeightRecipe {
    /// Its name in errors and traces.
    pub name: String,
    /// Rows (outputs).
    pub rows: usize,
    /// Columns (inputs). A plain vector has one column.
    pub columns: usize,
    /// How it may be stored.
    pub class: WeightClass,
    /// Where it comes from.
    pub parts: Vec<Part>,
}

impl WeightRecipe {
    /// A weight made of parts of equal width.
    pub fn new(name: impl Into<String>, class: WeightClass, parts: Vec<Part>) -> Self {
        let rows = parts.iter().map(|p| p.rows.len()).sum();
        let columns = parts.first().map_or(0, Part::columns);
        Self { name: name.into(), rows, columns, class, parts }
    }

    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
