//! The chosen experts' feed-forward: the one op that is two kernels.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::{Lowering, pointwise};
use crate::backend::Result;
use crate::backend::cuda::weights::Weight;
use crate::graph::ops::MoeApply;
use crate::graph::pitch;

impl Lowering<'_> {
    pub(super) fn moe_apply(&self, op: &MoeApply) -> Result<[Launch; 2]> {
        let (count, rows) = self.rows(op.out);
        let (up, down) = (self.weights.get(op.up)?, self.weights.get(op.down)?);
        let half = |weight: &Weight| kernels::MoeApply {
            step: self.step,
            x: self.whole(op.x),
            routes: self.whole(op.routes),
            out: self.whole(op.out),
            weight: weight.address(),
            hidden: self.hidden,
            weight_pitch: weight.pitch as u32,
            hidden_pitch: pitch(op.up_rows(self.graph)) as u32,
            experts: op.experts as u32,
            width: (weight.desc.rows / op.experts) as u32,
            inputs: weight.desc.columns as u32,
            count,
            function: pointwise(op.function),
            gated: u32::from(op.gated),
        };
        let first = half(up).launch_up(self.device, up.format(), rows)?;
        Ok([first, half(down).launch_down(self.device, down.format(), rows)?])
    }
}
