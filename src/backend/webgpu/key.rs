//! Key of a measurement of forms: all that its result may depend on.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::WebGpuBackend;
use super::shaders;
use crate::backend::checks::not_allocated;
use crate::backend::{BackendInfo, Result};
use crate::graph::{Graph, WeightId};
use crate::hash::{Hash, Hasher};

/// Adapter and driver by name, and the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FormKey {
    pub adapter: String,
    /// Its version too, and the interface to it.
    pub driver: String,
    /// Of the kernels, of the device's numbers, and of the shapes of a model and of its memory.
    pub shapes: Hash,
}

impl FormKey {
    /// The key of a model whose weights are there and whose memory is allocated. Models of the same shapes share one; what
    /// their weights and values are called makes no difference, nor does the count of slots.
    pub fn new(backend: &WebGpuBackend, graph: &Graph) -> Result<Self> {
        let (gpu, layout) = (&backend.gpu, &backend.memory.as_ref().ok_or_else(not_allocated)?.layout);
        let BackendInfo { adapter, driver, subgroups, least_subgroup, most_subgroup, max_binding, .. } = &gpu.info;
        let mut text = Hashing::default();
        text.put((env!("CARGO_PKG_VERSION"), shaders::FINGERPRINT));
        text.put((gpu.ids, subgroups, least_subgroup, most_subgroup, max_binding, gpu.segment));
        // The form of one kind changes what another kind is measured beside.
        text.put(&gpu.given_forms);
        text.put((layout.context, layout.kv_format));
        for id in 0..graph.weights.len() {
            text.put(backend.weights.shape(WeightId(id as u32)));
        }
        for value in &graph.values {
            text.put((value.width, value.rows));
        }
        text.put((&graph.states, &graph.ops, &graph.regions));
        Ok(Self { adapter: adapter.clone(), driver: driver.clone(), shapes: text.0.finish() })
    }

    /// Whether it is one of this device with its driver.
    pub fn is_of(&self, device: &BackendInfo) -> bool {
        self.adapter == device.adapter && self.driver == device.driver
    }
}

/// Values that are hashed as they are written, which tells all fields of an op apart.
#[derive(Default)]
struct Hashing(Hasher);

impl Hashing {
    fn put(&mut self, value: impl fmt::Debug) {
        // Hashing does not fail.
        let _ = writeln!(self, "{value:?}");
    }
}

impl fmt::Write for Hashing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.add(text.as_bytes());
        Ok(())
    }
}
