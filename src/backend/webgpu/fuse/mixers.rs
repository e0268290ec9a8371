//! Convolutions and recurrences with what surrounds them.

use super::{Fusion, Kernel, is_plain};
use crate::backend::webgpu::kernels::conv_decode;
use crate::backend::webgpu::kernels::selective_scan::decode::{MOST_BEFORE, MOST_RANK, MOST_STATES};
use crate::graph::ops::{Conv, ConvAppend, Gate, GatedDelta, Linear, Norm, NormKind, SelectiveScan, SsdScan};
use crate::graph::{Node, StateId, ValueId};

/// Most rows that kernels of a convolution read at once.
const MOST_CONV: usize = MOST_BEFORE + 1;
const _: () = assert!(MOST_BEFORE == conv_decode::MOST_BEFORE);

/// A convolution and the renewal of its memory.
pub(in super::super) struct ConvDecode<'a> {
    pub conv: Node<'a, Conv>,
    pub append: Node<'a, ConvAppend>,
}

/// The ops of a Mamba-1 decode step behind x_proj.
pub(in super::super) struct ScanDecode<'a> {
    pub conv: Node<'a, Conv>,
    pub append: Node<'a, ConvAppend>,
    pub dt_norm: Node<'a, Norm>,
    pub b_norm: Node<'a, Norm>,
    pub c_norm: Node<'a, Norm>,
    pub linear: Node<'a, Linear>,
    pub scan: Node<'a, SelectiveScan>,
    pub gate: Node<'a, Gate>,
}

impl ScanDecode<'_> {
    pub fn ops(&self) -> Vec<usize> {
        let norms = [self.dt_norm.index, self.b_norm.index, self.c_norm.index];
        let others = [self.linear.index, self.scan.index, self.gate.index];
        [self.conv.index, self.append.index].into_iter().chain(norms).chain(others).collect()
    }
}

/// The scan of Mamba-2 and its gate.
pub(in super::super) struct SsdDecode<'a> {
    pub scan: Node<'a, SsdScan>,
    pub gate: Node<'a, Gate>,
}

/// The gated delta rule with its norms and gates.
pub(in super::super) struct DeltaDecode<'a> {
    pub q_norm: Node<'a, Norm>,
    pub k_norm: Node<'a, Norm>,
    pub rule: Node<'a, GatedDelta>,
    pub norm: Node<'a, Norm>,
    pub gate: Node<'a, Gate>,
}

impl DeltaDecode<'_> {
    pub fn ops(&self) -> Vec<usize> {
        vec![self.q_norm.index, self.k_norm.index, self.rule.index, self.norm.index, self.gate.index]
    }
}

impl<'a> Fusion<'a> {
    /// Takes the recurrences with what surrounds them.
    pub fn mixers(&mut self) {
        for scan in self.uses.nodes::<SelectiveScan>() {
            if let Some(group) = self.scan_decode(scan) {
                self.convolutions.insert(group.conv.index);
                self.take(Some(Kernel::ScanDecode(group)));
            }
        }
        for scan in self.uses.nodes::<SsdScan>() {
            let group = self.ssd_decode(scan);
            self.take(group.map(Kernel::SsdDecode));
        }
        for rule in self.uses.nodes::<GatedDelta>() {
            let group = self.delta_decode(rule);
            self.take(group.map(Kernel::DeltaDecode));
        }
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

    /// The scan of Mamba-2 and its gate, where a norm reads them; a gate that a linear layer reads is that layer's
    /// input.
    fn ssd_decode(&self, scan: Node<'a, SsdScan>) -> Option<SsdDecode<'a>> {
        let gate: Node<'_, Gate> = self.uses.only_reader(scan.out)?;
        self.uses.only_reader::<Norm>(gate.out)?;
        let whole = gate.x == self.uses.graph().whole(scan.out);
        let together = scan.x.value == scan.b.value && scan.x.value == scan.c.value;
        let fits = whole && together && gate.gate.value == scan.dt.value;
        fits.then_some(SsdDecode { scan, gate })
    }

    fn scan_decode(&self, scan: Node<'a, SelectiveScan>) -> Option<ScanDecode<'a>> {
        let uses = &self.uses;
        let conv: Node<'_, Conv> = uses.made_by(scan.x.value)?;
        let reads_all = |reader: usize| uses.node::<Linear>(reader).is_some_and(|linear| linear.x == scan.x.value);
        if !uses.readers(scan.x.value).iter().all(|&reader| reader == scan.index || reads_all(reader)) {
            return None;
        }
        let append = self.conv_append(conv.state)?;
        let linear: Node<'_, Linear> = uses.made_by(scan.dt.value)?;
        let norm = |value: ValueId, reader: usize| {
            let norm: Node<'_, Norm> = uses.made_by(value)?;
            (is_plain(norm.op) && uses.is_only_reader(value, reader)).then_some(norm)
        };
        let dt_norm = norm(linear.x, linear.index)?;
        let (b_norm, c_norm) = (norm(scan.b.value, scan.index)?, norm(scan.c.value, scan.index)?);
        let gate: Node<'_, Gate> = uses.only_reader(scan.out)?;
        let together = [b_norm, c_norm].iter().all(|norm| norm.x.value == dt_norm.x.value);
        let fits = gate.x.value == scan.out
            && gate.gate.value == conv.x.value
            && together
            && linear.bias.is_some()
            && uses.is_only_reader(scan.dt.value, scan.index);
        let small = dt_norm.x.width <= MOST_RANK && scan.b.width <= MOST_STATES && self.is_short(conv.state);
        (fits && small).then_some(ScanDecode { conv, append, dt_norm, b_norm, c_norm, linear, scan, gate })
    }

    fn delta_decode(&self, rule: Node<'a, GatedDelta>) -> Option<DeltaDecode<'a>> {
        let (uses, graph) = (&self.uses, self.uses.graph());
        let key_norm = |value: ValueId| {
            let norm: Node<'_, Norm> = uses.made_by(value)?;
            let bare = norm.kind == NormKind::L2 && norm.weight.is_none() && norm.bias.is_none();
            let alone = uses.is_only_reader(value, rule.index);
            (bare && alone && norm.groups == rule.key_heads).then_some(norm)
        };
        let (q_norm, k_norm) = (key_norm(rule.q.value)?, key_norm(rule.k.value)?);
        let norm: Node<'_, Norm> = uses.only_reader(rule.out)?;
        let gate: Node<'_, Gate> = uses.only_reader(norm.out)?;
        let weighted = norm.kind == NormKind::Rms && norm.weight.is_some() && norm.bias.is_none();
        // What is read comes from two buffers, and whole results go on.
        let from = [k_norm.x.value, rule.v.value] == [q_norm.x.value; 2];
        let beside = [rule.dt.value, gate.gate.value] == [rule.beta.value; 2];
        let whole = rule.q.offset == 0 && rule.k.offset == 0;
        let goes_on = norm.x == graph.whole(rule.out) && gate.x == graph.whole(norm.out);
        let heads = norm.groups == rule.heads && q_norm.eps == k_norm.eps && gate.gate.value != norm.out;
        let fits = weighted && from && beside && whole && goes_on && heads;
        fits.then_some(DeltaDecode { q_norm, k_norm, rule, norm, gate })
    }
}
