//! Blocks: copies, on the device, of what a slot remembers outside its pages.
//!
//! A block is one buffer. It holds the slot's rings, convolution columns and recurrent states one behind the other, in
//! the order of [`slot_extents`](super::state_io::slot_extents) and as they lie in the slot's own buffers, so that a
//! copy in or out moves bytes and computes nothing.

use std::sync::Arc;

use super::checks::misuse;
use super::{BlockId, Result};

/// Freed buffers that wait to be used again, so that a conversation that replaces its checkpoints allocates nothing.
const SPARE: usize = 2;

/// The blocks of a backend, each a `B` of the same size.
pub(super) struct Blocks<B> {
    blocks: Vec<Option<Arc<B>>>,
    spare: Vec<B>,
}

impl<B> Default for Blocks<B> {
    fn default() -> Self {
        Self { blocks: vec![], spare: vec![] }
    }
}

impl<B> Blocks<B> {
    /// A buffer of a block that was freed.
    pub fn spare(&mut self) -> Option<B> {
        self.spare.pop()
    }

    /// Gives a block its id.
    pub fn add(&mut self, block: B) -> BlockId {
        let free = self.blocks.iter().position(Option::is_none).unwrap_or(self.blocks.len());
        if free == self.blocks.len() {
            self.blocks.push(None);
        }
        self.blocks[free] = Some(Arc::new(block));
        BlockId(free as u32)
    }

    /// A block that was saved and not freed; a handle of its own, so that the slots' buffers can be changed beside it.
    pub fn get(&self, id: BlockId) -> Result<Arc<B>> {
        match self.blocks.get(id.0 as usize).and_then(Option::as_ref) {
            Some(block) => Ok(block.clone()),
            None => misuse(format!("block {} was not saved, or was freed", id.0)),
        }
    }

    /// Ends a block.
    pub fn free(&mut self, id: BlockId) {
        let freed = self.blocks.get_mut(id.0 as usize).and_then(Option::take);
        if self.spare.len() < SPARE {
            self.spare.extend(freed.and_then(Arc::into_inner));
        }
    }

    /// All buffers, the spare ones included.
    pub fn buffers(&self) -> impl Iterator<Item = &B> {
        self.blocks.iter().flatten().map(Arc::as_ref).chain(&self.spare)
    }
}
