//! Definitions and uses of values: the makers and the readers, by the kind of op that is looked for.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::{Graph, Op, StateId, ValueId, Variant};

/// An op of a known kind, and where it stands in its graph.
#[derive(Debug)]
pub struct Node<'a, T> {
    /// Index in [`Graph::ops`].
    pub index: usize,
    /// The op.
    pub op: &'a T,
}

impl<T> Clone for Node<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Node<'_, T> {}

impl<T> Deref for Node<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.op
    }
}

/// The maker and the readers of every value of a graph, and the ops of every state.
pub struct Uses<'a> {
    graph: &'a Graph,
    makers: BTreeMap<ValueId, usize>,
    readers: BTreeMap<ValueId, Vec<usize>>,
    holders: BTreeMap<StateId, Vec<usize>>,
}

impl<'a> Uses<'a> {
    /// Goes through a graph once.
    pub fn new(graph: &'a Graph) -> Self {
        let mut uses = Self { graph, makers: BTreeMap::new(), readers: BTreeMap::new(), holders: BTreeMap::new() };
        for (index, op) in graph.ops.iter().enumerate() {
            for view in op.reads() {
                uses.readers.entry(view.value).or_default().push(index);
            }
            if let Some(state) = op.state() {
                uses.holders.entry(state).or_default().push(index);
            }
            if let Some(out) = op.writes() {
                uses.makers.insert(out, index);
            }
        }
        uses
    }

    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The op at an index, where it is of this kind.
    pub fn node<T: Variant>(&self, index: usize) -> Option<Node<'a, T>> {
        let op = self.graph.ops.get(index).and_then(Op::get)?;
        Some(Node { index, op })
    }

    /// All ops of one kind, in their order.
    pub fn nodes<T: Variant + 'a>(&self) -> impl Iterator<Item = Node<'a, T>> + use<'a, T> {
        let ops = self.graph.ops.iter().enumerate();
        ops.filter_map(|(index, op)| op.get().map(|op| Node { index, op }))
    }

    /// Index of the op that makes a value; `None` for an input.
    pub fn maker(&self, value: ValueId) -> Option<usize> {
        self.makers.get(&value).copied()
    }

    /// Indices of the ops that read or change a state.
    pub fn holders(&self, state: StateId) -> &[usize] {
        self.holders.get(&state).map_or(&[], Vec::as_slice)
    }

    /// The op that makes a value, where it is of this kind.
    pub fn made_by<T: Variant>(&self, value: ValueId) -> Option<Node<'a, T>> {
        self.maker(value).and_then(|index| self.node(index))
    }

    /// Indexes of the ops that read a value, in their order; an op that reads it twice stands there twice.
    pub fn readers(&self, value: ValueId) -> &[usize] {
        self.readers.get(&value).map_or(&[], Vec::as_slice)
    }

    /// The only read of a value, where the op is of this kind.
    pub fn only_reader<T: Variant>(&self, value: ValueId) -> Option<Node<'a, T>> {
        match self.readers(value) {
            &[reader] => self.node(reader),
            _ => None,
        }
    }

    /// Whether one op reads a value, once, and no other does.
    pub fn is_only_reader(&self, value: ValueId, reader: usize) -> bool {
        self.readers(value) == [reader]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;
    use crate::graph::ops::{Activation, Add, Function};

    #[test]
    fn makers_and_readers_are_found_by_kind() {
        let mut b = GraphBuilder::new();
        let x = b.input("x", 8);
        let first = b.activation("first", b.whole(x), Function::Silu, 1.0);
        let sum = b.add("sum", b.whole(first), b.whole(x), 2.0);
        let last = b.activation("last", b.whole(sum), Function::Identity, 3.0);
        let graph = b.finish().expect("a valid graph");
        let uses = Uses::new(&graph);

        assert_eq!((uses.maker(x), uses.maker(first), uses.maker(last)), (None, Some(0), Some(2)));
        assert_eq!(uses.made_by::<Add>(sum).map(|add| (add.index, add.scale)), Some((1, 2.0)));
        assert!(uses.made_by::<Activation>(sum).is_none(), "an addition is no activation");
        assert_eq!(uses.readers(x), [0, 1]);
        assert_eq!(uses.only_reader::<Activation>(sum).map(|node| node.scale), Some(3.0));
        assert!(uses.only_reader::<Add>(x).is_none() && uses.only_reader::<Add>(sum).is_none());
        assert!(uses.is_only_reader(sum, 2) && !uses.is_only_reader(x, 1) && uses.readers(last).is_empty());
        assert_eq!(uses.nodes::<Activation>().map(|node| node.index).collect::<Vec<_>>(), [0, 2]);
        assert!(uses.node::<Add>(0).is_none() && uses.node::<Add>(9).is_none());
    }

    #[test]
    fn an_op_that_reads_a_value_twice_is_not_its_only_reader() {
        let mut b = GraphBuilder::new();
        let x = b.input("x", 8);
        let y = b.activation("y", b.whole(x), Function::Silu, 1.0);
        b.add("twice", b.whole(y), b.whole(y), 1.0);
        let graph = b.finish().expect("a valid graph");
        let uses = Uses::new(&graph);
        assert_eq!(uses.readers(y), [1, 1]);
        assert!(uses.only_reader::<Add>(y).is_none() && !uses.is_only_reader(y, 1));
    }
}
