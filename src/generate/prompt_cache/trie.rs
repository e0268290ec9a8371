//! A radix trie over token ids, with an entry at some of its nodes.
//!
//! An edge holds the run of tokens between two places at which texts part or an entry lies, so a text of 8,000 tokens
//! with five entries is five nodes. A node keeps its id while the edges around it are cut.

/// Index of a node. It is valid while the node has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(usize);

const ROOT: NodeId = NodeId(0);

#[derive(Debug)]
struct Node<E> {
    parent: NodeId,
    /// Tokens from the parent to here.
    edge: Vec<u32>,
    /// Count of tokens from the root to here.
    depth: usize,
    children: Vec<NodeId>,
    entry: Option<E>,
}

/// The trie.
#[derive(Debug)]
pub(super) struct Trie<E> {
    /// The root first. Those in `free` are linked to nothing.
    nodes: Vec<Node<E>>,
    free: Vec<NodeId>,
}

/// A text followed from the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// Tokens of the text that the trie has.
    pub matched: usize,
    /// Nodes with an entry on the way, with their depths, the shallowest first.
    pub entries: Vec<(usize, NodeId)>,
}

impl<E> Default for Trie<E> {
    fn default() -> Self {
        let root = Node { parent: ROOT, edge: vec![], depth: 0, children: vec![], entry: None };
        Self { nodes: vec![root], free: vec![] }
    }
}

impl<E> Trie<E> {
    /// Follows a text as far as it goes.
    pub fn walk(&self, tokens: &[u32]) -> Walk {
        let (mut at, mut walk) = (ROOT, Walk::default());
        loop {
            let rest = &tokens[walk.matched..];
            let Some(child) = self.child(at, rest) else { return walk };
            let edge = &self.node(child).edge;
            let common = common(edge, rest);
            walk.matched += common;
            if common < edge.len() {
                return walk;
            }
            at = child;
            if self.node(at).entry.is_some() {
                walk.entries.push((walk.matched, at));
            }
        }
    }

    /// The entry at the end of a text, made where there is none.
    pub fn insert(&mut self, tokens: &[u32], make: impl FnOnce() -> E) -> NodeId {
        let (mut at, mut depth) = (ROOT, 0);
        while depth < tokens.len() {
            let rest = &tokens[depth..];
            let Some(child) = self.child(at, rest) else {
                at = self.add(at, rest.to_vec());
                break;
            };
            let (common, length) = (common(&self.node(child).edge, rest), self.node(child).edge.len());
            at = if common < length { self.cut(child, common) } else { child };
            depth += common;
        }
        self.node_mut(at).entry.get_or_insert_with(make);
        at
    }

    /// Takes an entry out, and the nodes that nothing needs any more.
    pub fn remove(&mut self, id: NodeId) -> Option<E> {
        let entry = self.nodes.get_mut(id.0)?.entry.take()?;
        self.tidy(id);
        Some(entry)
    }

    /// The entry of a node.
    pub fn entry(&self, id: NodeId) -> Option<&E> {
        self.nodes.get(id.0)?.entry.as_ref()
    }

    /// The entry of a node, to be changed.
    pub fn entry_mut(&mut self, id: NodeId) -> Option<&mut E> {
        self.nodes.get_mut(id.0)?.entry.as_mut()
    }

    /// All nodes with an entry: depth, tokens since the entry before, id, entry.
    pub fn entries(&self) -> impl Iterator<Item = (usize, usize, NodeId, &E)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| {
            let (entry, id) = (node.entry.as_ref()?, NodeId(index));
            Some((node.depth, node.depth - self.depth_before(id), id, entry))
        })
    }

    /// Whether no text goes on behind a node.
    pub fn is_end(&self, id: NodeId) -> bool {
        self.node(id).children.is_empty()
    }

    /// The tokens from the root to a node.
    #[cfg(test)]
    pub fn tokens(&self, id: NodeId) -> Vec<u32> {
        let (mut edges, mut at) = (vec![], id);
        while at != ROOT {
            edges.push(self.node(at).edge.as_slice());
            at = self.node(at).parent;
        }
        edges.reverse();
        edges.concat()
    }

    /// Depth of the nearest entry above a node; 0 without one.
    fn depth_before(&self, id: NodeId) -> usize {
        let mut at = self.node(id).parent;
        while at != ROOT && self.node(at).entry.is_none() {
            at = self.node(at).parent;
        }
        self.node(at).depth
    }

    fn child(&self, of: NodeId, tokens: &[u32]) -> Option<NodeId> {
        let first = tokens.first()?;
        self.node(of).children.iter().copied().find(|&child| self.node(child).edge.first() == Some(first))
    }

    fn add(&mut self, parent: NodeId, edge: Vec<u32>) -> NodeId {
        let depth = self.node(parent).depth + edge.len();
        let node = Node { parent, edge, depth, children: vec![], entry: None };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id.0] = node;
                id
            }
            None => {
                self.nodes.push(node);
                NodeId(self.nodes.len() - 1)
            }
        };
        self.node_mut(parent).children.push(id);
        id
    }

    /// A new node on the edge to `id`, `length` tokens behind its parent.
    fn cut(&mut self, id: NodeId, length: usize) -> NodeId {
        let parent = self.node(id).parent;
        let above = self.node(id).edge[..length].to_vec();
        self.node_mut(parent).children.retain(|&child| child != id);
        let middle = self.add(parent, above);
        self.node_mut(middle).children.push(id);
        let node = self.node_mut(id);
        node.parent = middle;
        node.edge.drain(..length);
        middle
    }

    /// Removes a node without entry and children, and joins one with a single child to it.
    fn tidy(&mut self, id: NodeId) {
        let node = self.node(id);
        if id == ROOT || node.entry.is_some() || node.children.len() > 1 {
            return;
        }
        let parent = node.parent;
        match node.children.first().copied() {
            None => {
                self.node_mut(parent).children.retain(|&child| child != id);
                self.free.push(id);
                self.tidy(parent);
            }
            Some(child) => {
                let joined = [self.node(id).edge.as_slice(), &self.node(child).edge].concat();
                let lower = self.node_mut(child);
                (lower.edge, lower.parent) = (joined, parent);
                let children = &mut self.node_mut(parent).children;
                children.retain(|&other| other != id);
                children.push(child);
                self.free.push(id);
            }
        }
    }

    fn node(&self, id: NodeId) -> &Node<E> {
        &self.nodes[id.0]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<E> {
        &mut self.nodes[id.0]
    }
}

/// Count of equal tokens at the beginning of both.
pub(in crate::generate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The same, without edges.
    #[derive(Default)]
    struct Plain(BTreeMap<Vec<u32>, usize>);

    impl Plain {
        fn entries(&self, text: &[u32]) -> Vec<usize> {
            (1..=text.len()).filter(|&length| self.0.contains_key(&text[..length])).collect()
        }

        fn matched(&self, text: &[u32]) -> usize {
            self.0.keys().map(|known| common(known, text)).max().unwrap_or(0)
        }
    }

    proptest! {
        #[test]
        fn a_trie_finds_what_a_list_finds(
            changes in prop::collection::vec((prop::collection::vec(0..3u32, 1..9), any::<bool>()), 1..60),
            asked in prop::collection::vec(prop::collection::vec(0..3u32, 0..10), 10),
        ) {
            let (mut trie, mut plain) = (Trie::default(), Plain::default());
            for (number, (text, insert)) in changes.into_iter().enumerate() {
                if insert {
                    trie.insert(&text, || number);
                    plain.0.entry(text).or_insert(number);
                } else {
                    let end = trie.walk(&text).entries.last().copied().filter(|(depth, _)| *depth == text.len());
                    prop_assert_eq!(end.and_then(|(_, id)| trie.remove(id)), plain.0.remove(&text));
                }
                for text in &asked {
                    let walk = trie.walk(text);
                    let depths: Vec<usize> = walk.entries.iter().map(|(depth, _)| *depth).collect();
                    prop_assert_eq!(depths, plain.entries(text));
                    prop_assert_eq!(walk.matched, plain.matched(text));
                    for (depth, id) in walk.entries {
                        prop_assert_eq!(trie.tokens(id), &text[..depth]);
                        prop_assert_eq!(trie.entry(id), plain.0.get(&text[..depth]));
                    }
                }
                let mut found: Vec<usize> = trie.entries().map(|(.., entry)| *entry).collect();
                let mut wanted: Vec<usize> = plain.0.values().copied().collect();
                found.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted);
                for (depth, since, id, _) in trie.entries() {
                    let before = plain.entries(&trie.tokens(id)[..depth - 1]).last().copied().unwrap_or(0);
                    prop_assert_eq!(since, depth - before);
                }
            }
            // Nothing is left where nothing is known.
            let ids: Vec<NodeId> = trie.entries().map(|(_, _, id, _)| id).collect();
            for id in ids {
                trie.remove(id);
            }
            prop_assert_eq!(trie.nodes.len() - trie.free.len(), 1);
        }
    }
}
