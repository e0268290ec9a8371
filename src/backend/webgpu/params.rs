//! The uniforms of every shader.

pub(super) use super::kernels::params::{
    Activation, Add, Attention, Conv, ConvAppend, Embed, Gate, GatedDelta, GatedDeltaDecode as DeltaDecode, Gather,
    KvAppend, LinearPair, LinearRows, LinearTile, MoeApply, MoeRoute, Norm, Rope, RopeAppend, RopeNormed, Sample,
    SampleFreeze as Freeze, SelectiveScan, SelectiveScanDecode as ScanDecode, SsdScan, SsdScanDecode as SsdDecode,
};
pub(super) use crate::constants::NONE;
