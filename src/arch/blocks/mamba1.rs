//! The Mamba-1 mixer.

use super::{Names, at_least_two};
use crate::arch::config::{SMALL, WIDTH};
use crate::arch::{ArchError, Config};
use crate::graph::regions::Mamba1Spec;
use crate::graph::{GraphBuilder, Part, StateKind, ValueId, View};

/// Sizes of a Mamba-1 block.
#[derive(Clone, Copy)]
pub(crate) struct Mamba1Sizes {
    pub d_inner: usize,
    pub d_state: usize,
    pub d_conv: usize,
    /// Columns from which the time steps of all columns come.
    pub dt_rank: usize,
}

impl Mamba1Sizes {
    /// Reads them under the names that Hymba and Jamba use.
    pub fn parse(config: &Config, hidden: usize) -> Result<Self, ArchError> {
        let d_inner = config.expanded("mamba_expand", hidden, 2.0, WIDTH)?;
        let d_state = config.size_within_or("mamba_d_state", SMALL, 16)?;
        let d_conv = at_least_two(config, "mamba_d_conv", 4)?;
        config.product("mamba_d_state", &[d_inner, d_state], WIDTH << 8)?;
        config.product("mamba_d_conv", &[d_inner, d_conv], WIDTH << 8)?;
        let dt_rank = match config.get("mamba_dt_rank").filter(|rank| rank.as_str() != Some("auto")) {
            Some(_) => config.size_within("mamba_dt_rank", WIDTH)?,
            None => hidden.div_ceil(16),
        };
        Ok(Self { d_inner, d_state, d_conv, dt_rank })
    }

    /// Rows of `x_proj`: dt, B and C.
    pub fn selected(&self) -> usize {
        self.dt_rank + 2 * self.d_state
    }
}

/// The Mamba-1 block between its outer projections, with norms of dt, B and C. Gives `y * silu(z)`.
pub(crate) struct Mamba1 {
    pub sizes: Mamba1Sizes,
    /// `[d_inner, 1, d_conv]`
    pub conv: Part,
    /// `[d_inner]`
    pub conv_bias: Option<Part>,
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
        let Mamba1Sizes { d_inner, d_state, d_conv, .. } = self.sizes;
        let conv_state = StateKind::Conv { channels: d_inner, d_conv };
        let shape = vec![d_inner, d_state];
        let spec = Mamba1Spec {
            conv: g.vector(self.conv),
            conv_bias: self.conv_bias.map(|bias| g.vector(bias)),
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
