//! The pools of keys and values, as kernels find rows in them.

use super::Lowering;
use crate::backend::Result;
use crate::backend::webgpu::memory::SlotBuffers;
use crate::graph::{KvSpec, StateId};
use crate::state::{Addressing, KvFormat};

/// The pool of one KV state.
pub(super) struct Pools {
    pub keys: wgpu::Buffer,
    pub values: wgpu::Buffer,
    pub pages: wgpu::Buffer,
    pub spec: KvSpec,
    /// Rows of a ring; 0: pages.
    pub ring: u32,
    pub pages_per_slot: u32,
    pub format: &'static str,
}

impl Lowering<'_> {
    pub(super) fn pools(&self, state: StateId) -> Result<Pools> {
        let (Some(spec), SlotBuffers::Kv { keys, values }) = (self.graph.kv(state), self.memory.state(state)) else {
            return self.no_state(state, "of keys and values");
        };
        let layout = &self.memory.layout;
        Ok(Pools {
            keys: keys.clone(),
            values: values.clone(),
            pages: self.memory.pages.clone(),
            spec: spec.clone(),
            ring: match layout.kv(spec).addressing {
                Addressing::Pages => 0,
                Addressing::Ring { rows } => rows as u32,
            },
            pages_per_slot: layout.pages_per_slot() as u32,
            format: match layout.kv_format {
                KvFormat::F32 => "f32",
                KvFormat::F16 => "f16",
            },
        })
    }
}
