//! The Mamba-1 mixer.

use super::Names;
use crate::graph::regions::Mamba1Spec;
use crate::graph::{GraphBuilder, Part, StateKind, ValueId, View};

/// The Mamba-1 block between its outer projections, with norms of dt, B and C. Gives `y * silu(z)`.
pub(crate) struct Mamba1 {
    pub d_inner: usize,
    pub d_state: usize,
    pub d_conv: usize,
    /// `[d_inner, 1, d_conv]`
    pub conv: Part,
    /// `[d_inner]`
    pub conv_bias: Part,
    /// `[rank + 2 * d_state, d_inner]`: dt, B, C.
    pub x_proj: Part,
    /// Weights of the norms of dt, B and C.
    pub norms: [Part; 3],
    pub eps: f32,
    /// `[d_inner, rank]`
    pub dt_proj: Part,
    /// `[d_inner]`
    pub dt_bias: Part,
    /// `[d_inner, d_state]`, negative.
    pub a: Part,
    /// `[d_inner]`
    pub d: Part,
}

impl Mamba1 {
    /// Appends it.
    pub fn build(self, g: &mut GraphBuilder, names: &Names, x: View, z: View) -> ValueId {
        let conv_state = StateKind::Conv { channels: self.d_inner, d_conv: self.d_conv };
        let shape = vec![self.d_inner, self.d_state];
        let spec = Mamba1Spec {
            conv: g.vector(self.conv),
            conv_bias: Some(g.vector(self.conv_bias)),
            conv_state: g.state(names.value("conv"), names.layer, conv_state),
            x_proj: g.matrix(names.value("x_proj"), vec![self.x_proj]),
            norms: self.norms.map(|norm| (g.vector(norm), self.eps)),
            dt_proj: g.high_precision(names.value("dt_proj"), vec![self.dt_proj]),
            dt_bias: g.vector(self.dt_bias),
            a: g.vector(self.a),
            d: g.vector(self.d),
            state: g.state(names.value("ssm"), names.layer, StateKind::Recurrent { shape, channels_last: false }),
        };
        g.mamba1_mixer(&names.block(), x, z, &spec)
    }
}
