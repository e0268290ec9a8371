//! Queries and keys on their way into attention.

use super::{Fusion, Kernel};
use crate::graph::Node;
use crate::graph::ops::{Attention, KvAppend, Norm, NormKind, Rope};
use crate::state::Addressing;

/// Queries and keys that are one value, each head of it normed and rotated; keys and values are kept.
pub(in super::super) struct RopeNormed<'a> {
    pub norm: Node<'a, Norm>,
    pub rope: Node<'a, Rope>,
    pub append: Node<'a, KvAppend>,
}

/// Queries and keys of one value, rotated; queries may grow; keys and values are kept.
pub(in super::super) struct RopeAppend<'a> {
    pub query: Node<'a, Rope>,
    pub key: Node<'a, Rope>,
    pub append: Node<'a, KvAppend>,
}

impl<'a> Fusion<'a> {
    /// The group of the ops in front of an attention.
    pub fn around_attention(&self, index: usize) -> Option<Kernel<'a>> {
        let attention: Node<'_, Attention> = self.uses.node(index)?;
        let appended = self.rope_append(attention).map(Kernel::RopeAppend);
        appended.or_else(|| self.rope_normed(attention).map(Kernel::RopeNormed))
    }

    fn rope_normed(&self, attention: Node<'a, Attention>) -> Option<RopeNormed<'a>> {
        let (uses, graph) = (&self.uses, self.uses.graph());
        let Attention { q, k, v, state, .. } = attention.op;
        let rope: Node<'_, Rope> = uses.made_by(q.value)?;
        let norm: Node<'_, Norm> = uses.made_by(rope.x.value)?;
        let append = self.kv_append(attention)?;
        let steady = rope.growth.is_none();
        let weighted = norm.kind == NormKind::Rms && norm.weight.is_some() && norm.bias.is_none();
        let whole = rope.x == graph.whole(rope.x.value) && uses.is_only_reader(rope.x.value, rope.index);
        let joined = k.value == q.value && q.offset == 0 && k.offset == q.width && q.width + k.width == norm.x.width;
        let alike = norm.groups == rope.heads && v.value == norm.x.value && norm.group().is_multiple_of(2);
        let alone = uses.readers(q.value).iter().all(|&reader| reader == attention.index || reader == append.index);
        let keys = graph.kv(*state)?.heads * norm.group() == k.width;
        (steady && weighted && whole && joined && alike && alone && keys).then_some(RopeNormed { norm, rope, append })
    }

    fn rope_append(&self, attention: Node<'a, Attention>) -> Option<RopeAppend<'a>> {
        let Attention { q, k, v, .. } = attention.op;
        let (query, key): (Node<'_, Rope>, Node<'_, Rope>) = (self.uses.made_by(q.value)?, self.uses.made_by(k.value)?);
        let append = self.kv_append(attention)?;
        let alone = self.uses.is_only_reader(q.value, attention.index);
        let one_value = query.x.value == key.x.value && v.value == query.x.value;
        let head = query.head_dim();
        let alike = query.rotary == key.rotary && head == key.head_dim() && head.is_multiple_of(2);
        let steady = key.growth.is_none();
        (alone && one_value && alike && steady).then_some(RopeAppend { query, key, append })
    }

    /// The op that keeps what an attention reads, if it may run before: what it overwrites must be out of every
    /// reader's sight.
    fn kv_append(&self, attention: Node<'a, Attention>) -> Option<Node<'a, KvAppend>> {
        let Attention { k, v, state, .. } = attention.op;
        // Only the first reader's group makes the keys; later layers read them.
        if self.uses.readers(k.value).iter().any(|&reader| reader < attention.index) {
            return None;
        }
        let same = |op: &KvAppend| op.state == *state && op.k == *k && op.v == *v;
        let append = self.uses.nodes::<KvAppend>().find(|append| same(append))?;
        let kv = self.uses.graph().kv(*state)?;
        let room = match (self.layout.kv(kv).addressing, kv.window) {
            (Addressing::Ring { rows }, Some(window)) => {
                rows >= window + self.spec.rows || rows >= self.layout.context.saturating_sub(kv.pinned)
            }
            _ => true,
        };
        room.then_some(append)
    }
}
