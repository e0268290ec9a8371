//! Linear layers with the ops before and behind them.

use super::{Fusion, Kernel, is_plain};
use crate::backend::webgpu::kernels::linear_rows::group_norm::MOST_GROUPS;
use crate::graph::ops::{Activation, Add, Conv, Gate, Linear, Norm, NormKind};
use crate::graph::{Node, Op, Rows, View};

/// The ops that make a linear layer's input.
#[derive(Clone, Copy)]
pub(in super::super) enum Input<'a> {
    Plain,
    Norm(Node<'a, Norm>),
    GroupNorm(Node<'a, Norm>),
    AddNorm { add: Node<'a, Add>, norm: Node<'a, Norm> },
    Norms { first: Node<'a, Norm>, second: Node<'a, Norm>, add: Node<'a, Add> },
    Gate(Node<'a, Gate>),
    Activation(Node<'a, Activation>),
    Conv(Node<'a, Conv>),
}

impl Input<'_> {
    fn ops(&self) -> Vec<usize> {
        match self {
            Self::Plain => vec![],
            Self::Norm(norm) | Self::GroupNorm(norm) => vec![norm.index],
            Self::AddNorm { add, norm } => vec![add.index, norm.index],
            Self::Norms { first, second, add } => vec![first.index, second.index, add.index],
            Self::Gate(gate) => vec![gate.index],
            Self::Activation(activation) => vec![activation.index],
            Self::Conv(conv) => vec![conv.index],
        }
    }
}

/// A linear layer, the ops that make its input, and the addition of its result.
pub(in super::super) struct FusedLinear<'a> {
    pub input: Input<'a>,
    pub linear: Node<'a, Linear>,
    pub add: Option<Node<'a, Add>>,
}

impl FusedLinear<'_> {
    pub fn ops(&self) -> Vec<usize> {
        let mut ops = self.input.ops();
        ops.push(self.linear.index);
        ops.extend(self.add.map(|add| add.index));
        ops
    }
}

/// The ops that make the input of a pair's first layer.
#[derive(Clone, Copy)]
pub(in super::super) enum PairInput<'a> {
    Plain,
    Gate(Node<'a, Gate>),
}

/// Two linear layers whose results are added. The second's input is plain.
pub(in super::super) struct LinearPair<'a> {
    pub input: PairInput<'a>,
    pub first: Node<'a, Linear>,
    pub second: Node<'a, Linear>,
    pub add: Node<'a, Add>,
}

impl LinearPair<'_> {
    pub fn ops(&self) -> Vec<usize> {
        let gate = match self.input {
            PairInput::Plain => None,
            PairInput::Gate(gate) => Some(gate.index),
        };
        gate.into_iter().chain([self.first.index, self.second.index, self.add.index]).collect()
    }
}

impl<'a> Fusion<'a> {
    /// The group of a linear layer, where it has more ops than that.
    pub fn around_linear(&self, index: usize) -> Option<Kernel<'a>> {
        let linear: Node<'_, Linear> = self.uses.node(index)?;
        let input = self.linear_input(linear)?;
        // An addition that is part of another linear's input stays there.
        let free = input.ops().iter().all(|op| !self.taken.contains(op));
        let add = self.linear_add(linear).filter(|_| free);
        let alone = matches!(input, Input::Plain) && add.is_none();
        (!alone).then_some(Kernel::Linear(FusedLinear { input, linear, add }))
    }

    fn linear_input(&self, linear: Node<'a, Linear>) -> Option<Input<'a>> {
        let x = linear.x;
        if self.uses.graph().value(x).rows != Rows::All {
            return None;
        }
        let Some(maker) = self.uses.maker(x) else { return Some(Input::Plain) };
        if self.convolutions.contains(&maker) {
            return self.uses.node(maker).map(Input::Conv);
        }
        if self.taken.contains(&maker) || !self.uses.is_only_reader(x, linear.index) {
            return Some(Input::Plain);
        }
        Some(self.made_input(linear.index, maker).unwrap_or(Input::Plain))
    }

    /// The op that makes a linear's input, which has no other reader, and those before it.
    fn made_input(&self, linear: usize, maker: usize) -> Option<Input<'a>> {
        let (uses, graph) = (&self.uses, self.uses.graph());
        match &graph.ops[maker] {
            Op::Gate(gate) if gate.span() == 1 => uses.node(maker).map(Input::Gate),
            Op::Activation(_) => uses.node(maker).map(Input::Activation),
            Op::Add(_) => {
                let add: Node<'_, Add> = uses.node(maker)?;
                let norm = |view: View| {
                    let norm: Node<'_, Norm> = uses.made_by(view.value)?;
                    (is_plain(norm.op) && uses.is_only_reader(view.value, maker)).then_some(norm)
                };
                let (first, second) = (norm(add.a)?, norm(add.b)?);
                let alike = first.index != second.index && first.eps == second.eps;
                alike.then_some(Input::Norms { first, second, add })
            }
            Op::Norm(norm) if is_plain(norm) && self.norms_apart => None,
            Op::Norm(norm) if is_plain(norm) => {
                let (base, norm) = (norm.x, uses.node(maker)?);
                // Whoever else reads the sum must come later: it is made here.
                let later = uses.readers(base.value).iter().all(|&r| r == maker || r > linear);
                let whole = base == graph.whole(base.value);
                match uses.made_by(base.value).filter(|_| whole && later) {
                    Some(add) => Some(Input::AddNorm { add, norm }),
                    None => Some(Input::Norm(norm)),
                }
            }
            Op::Norm(norm) => {
                let each = norm.weight.is_some_and(|weight| graph.weight(weight).len() == norm.x.width);
                let fits =
                    norm.kind == NormKind::Rms && norm.bias.is_none() && (2..=MOST_GROUPS).contains(&norm.groups);
                uses.node(maker).filter(|_| each && fits).map(Input::GroupNorm)
            }
            _ => None,
        }
    }

    /// The addition that reads a linear's result right after it, if nobody else does, and if it is not the residual
    /// that the next norm takes in.
    fn linear_add(&self, linear: Node<'a, Linear>) -> Option<Node<'a, Add>> {
        let add: Node<'_, Add> = self.uses.only_reader(linear.out)?;
        let ready = self.uses.maker(add.a.value).is_none_or(|maker| maker < linear.index);
        let whole = add.b == self.uses.graph().whole(linear.out) && linear.bias.is_none();
        (whole && ready && !self.read_by_norm(add.out)).then_some(add)
    }

    /// The linear layers whose results an addition adds, if nobody else reads them, and if the sum is not the residual
    /// that the next norm takes in.
    pub fn linear_pair(&self, add: Node<'a, Add>) -> Option<LinearPair<'a>> {
        let linear = |view: View| {
            let linear: Node<'_, Linear> = self.uses.made_by(view.value)?;
            let whole = view == self.uses.graph().whole(view.value) && linear.bias.is_none();
            let alone = self.uses.is_only_reader(view.value, add.index);
            (whole && alone).then_some((linear, self.linear_input(linear)?))
        };
        let ((first, input), (second, second_input)) = (linear(add.a)?, linear(add.b)?);
        // A pair has no variant for an activation, which then stays a kernel: there are as many either way.
        let input = match input {
            Input::Plain | Input::Activation(_) => PairInput::Plain,
            Input::Gate(gate) => PairInput::Gate(gate),
            _ => return None,
        };
        let plain = matches!(second_input, Input::Plain | Input::Activation(_));
        let format = |linear: Node<'_, Linear>| self.weights.matrix(linear.weight).ok().map(|matrix| matrix.format);
        let alike = format(first)? == format(second)?;
        (plain && alike && !self.read_by_norm(add.out)).then_some(LinearPair { input, first, second, add })
    }
}
