//! Memory of attention.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::backend::checks::misuse;
use crate::graph::ops::KvAppend;

impl Lowering<'_> {
    pub(super) fn kv_append(&self, op: &KvAppend) -> Result<Launch> {
        let Some(kv) = self.graph.kv(op.state) else { return misuse("keys for what is not KV".into()) };
        let pools = self.memory.pools(op.state, kv)?;
        let (k, v) = (self.view(op.k), self.view(op.v));
        let kernel =
            kernels::KvAppend { step: self.step, k, v, keys: pools.keys, values: pools.values, kv: pools.rows };
        Ok(kernel.launch(self.device, pools.format, self.all())?)
    }
}
