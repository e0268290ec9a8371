//! Convolutions with the renewal of their memory, and the regions that are one kernel.

use super::{Fusion, Kernel, is_plain};
use crate::backend::Result;
use crate::backend::checks::misuse;
use crate::backend::webgpu::kernels::conv_decode;
use crate::backend::webgpu::kernels::selective_scan::decode::{MOST_BEFORE, MOST_RANK, MOST_STATES};
use crate::graph::ops::{Conv, ConvAppend, Norm, NormKind};
use crate::graph::regions::{GatedDeltaOps, Mamba1Ops, Mamba2Ops};
use crate::graph::{Node, Region, StateId};

/// Most rows that kernels of a convolution read at once.
const MOST_CONV: usize = MOST_BEFORE + 1;
const _: () = assert!(MOST_BEFORE == conv_decode::MOST_BEFORE);

/// A convolution and the renewal of its memory.
pub(in super::super) struct ConvDecode<'a> {
    pub conv: Node<'a, Conv>,
    pub append: Node<'a, ConvAppend>,
}

impl<'a> Fusion<'a> {
    /// Takes the regions that a kernel holds. What does not fit it runs op by op.
    pub fn regions(&mut self) -> Result<()> {
        let graph = self.uses.graph();
        for region in &graph.regions {
            let kernel = match region {
                Region::Mamba1Mixer(mixer) => {
                    let ops = mixer.ops(&self.uses).or_else(misuse)?;
                    self.fits_scan_decode(&ops).then_some(Kernel::ScanDecode(ops))
                }
                Region::Mamba2Mixer(mixer) => {
                    let ops = mixer.ops(&self.uses).or_else(misuse)?;
                    self.fits_ssd_decode(&ops).then_some(Kernel::SsdDecode(ops))
                }
                Region::GatedDeltaMixer(mixer) => {
                    let ops = mixer.ops(&self.uses).or_else(misuse)?;
                    fits_delta_decode(&ops).then_some(Kernel::DeltaDecode(ops))
                }
            };
            if let Some(Kernel::ScanDecode(ops)) = &kernel {
                self.convolutions.insert(ops.conv.index);
            }
            self.take(kernel);
        }
        Ok(())
    }

    fn conv_append(&self, state: StateId) -> Option<Node<'a, ConvAppend>> {
        self.uses.nodes::<ConvAppend>().find(|append| append.state == state)
    }

    /// Whether kernels hold all rows that a convolution of this memory reads.
    fn is_short(&self, state: StateId) -> bool {
        self.uses.graph().conv(state).is_some_and(|(_, d_conv)| d_conv <= MOST_CONV)
    }

    pub fn conv_decode(&self, index: usize) -> Option<ConvDecode<'a>> {
        let conv: Node<'_, Conv> = self.uses.node(index)?;
        let append = self.conv_append(conv.state)?;
        self.is_short(conv.state).then_some(ConvDecode { conv, append })
    }

    /// Mamba-1 behind x_proj as one kernel, whose input and gate come from one projection.
    fn fits_scan_decode(&self, ops: &Mamba1Ops<'a>) -> bool {
        let plain = [ops.dt_norm, ops.b_norm, ops.c_norm].iter().all(|norm| is_plain(norm));
        let together = ops.gate.gate.value == ops.conv.x.value && ops.dt_proj.bias.is_some();
        let (rank, d_state) = (ops.dt_norm.x.width, ops.scan.b.width);
        plain && together && rank <= MOST_RANK && d_state <= MOST_STATES && self.is_short(ops.conv.state)
    }

    /// The scan of Mamba-2 and its gate, where a norm reads them; a gate that a linear layer reads is that layer's
    /// input.
    fn fits_ssd_decode(&self, ops: &Mamba2Ops<'a>) -> bool {
        let normed = self.uses.only_reader::<Norm>(ops.gate.out).is_some();
        normed && ops.gate.gate.value == ops.scan.dt.value
    }
}

/// The delta rule with its norms and gates, where what it reads beside the convolution comes from one projection.
fn fits_delta_decode(ops: &GatedDeltaOps<'_>) -> bool {
    let GatedDeltaOps { q_norm, k_norm, rule, norm, gate, .. } = ops;
    let weighted = norm.kind == NormKind::Rms && norm.weight.is_some() && norm.bias.is_none();
    let together = [rule.dt.value, gate.gate.value] == [rule.beta.value; 2];
    weighted && together && q_norm.eps == k_norm.eps
}
