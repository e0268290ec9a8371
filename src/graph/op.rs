//! The closed set of ops as one type.

use super::ops::{
    Activation, Add, Attention, Conv, ConvAppend, Embed, Gate, GatedDelta, Gather, KvAppend, Linear, MoeApply,
    MoeRoute, Norm, Primitive, Rope, Sample, SelectiveScan, SsdScan,
};
use super::{Graph, StateId, ValueId, View, WeightId};

/// The way from an [`Op`] back to its struct.
pub trait Variant: Primitive {
    /// The struct, where the op is of this kind.
    fn of(op: &Op) -> Option<&Self>;
}

/// Makes [`Op`] and all that depends on which ops there are from one list of them.
macro_rules! ops {
    ($($Kind:ident),* $(,)?) => {
        /// One primitive: a struct of [`graph::ops`](super::ops).
        #[derive(Clone, Debug)]
        pub enum Op {
            $(#[doc = concat!("See [`", stringify!($Kind), "`].")] $Kind($Kind),)*
        }

        impl Op {
            /// Names of all ops there are.
            pub const NAMES: &[&str] = &[$($Kind::NAME),*];

            /// Name of the op, and of the files that implement it.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Kind(_) => $Kind::NAME,)* }
            }

            /// See [`Primitive::reads`].
            pub fn reads(&self) -> Vec<View> {
                match self { $(Self::$Kind(op) => op.reads(),)* }
            }

            /// See [`Primitive::writes`].
            pub fn writes(&self) -> Option<ValueId> {
                match self { $(Self::$Kind(op) => op.writes(),)* }
            }

            /// See [`Primitive::weights`].
            pub fn weights(&self) -> Vec<WeightId> {
                match self { $(Self::$Kind(op) => op.weights(),)* }
            }

            /// See [`Primitive::state`].
            pub fn state(&self) -> Option<StateId> {
                match self { $(Self::$Kind(op) => op.state(),)* }
            }

            /// See [`Primitive::check`].
            pub(super) fn check(&self, graph: &Graph) -> Result<(), String> {
                match self { $(Self::$Kind(op) => op.check(graph),)* }
            }
        }

        $(
            impl From<$Kind> for Op {
                fn from(op: $Kind) -> Self {
                    Self::$Kind(op)
                }
            }

            impl Variant for $Kind {
                fn of(op: &Op) -> Option<&Self> {
                    if let Op::$Kind(op) = op { Some(op) } else { None }
                }
            }
        )*
    };
}

ops!(
    Embed,
    Norm,
    Linear,
    Gate,
    Activation,
    Add,
    Conv,
    ConvAppend,
    Rope,
    Attention,
    KvAppend,
    SelectiveScan,
    SsdScan,
    GatedDelta,
    MoeRoute,
    MoeApply,
    Gather,
    Sample,
);

impl Op {
    /// The struct, where the op is of this kind.
    pub fn get<T: Variant>(&self) -> Option<&T> {
        T::of(self)
    }
}
