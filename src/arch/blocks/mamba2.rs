//! The Mamba-2 mixer.

use super::Names;
use crate::arch::config::{SMALL, WIDTH};
use crate::arch::{ArchError, Config};
use crate::graph::regions::Mamba2Spec;
use crate::graph::{GraphBuilder, Map, NormKind, Part, StateKind, ValueId, View};

/// The Mamba-2 block between its projections: convolution, scan, gate. Gives `y * silu(z)`.
pub(crate) struct Mamba2 {
    pub heads: usize,
    pub head_dim: usize,
    pub groups: usize,
    pub d_state: usize,
    pub d_conv: usize,
    pub conv_bias: bool,
    pub limit: (f32, f32),
}

impl Mamba2 {
    /// Reads the sizes under the names that Falcon-H1 and Granite use; `d_inner` is known already.
    pub fn parse(config: &Config, d_inner: usize) -> Result<Self, ArchError> {
        let heads = config.size_or("mamba_n_heads", 128)?;
        if !d_inner.is_multiple_of(heads) {
            return Err(config.invalid("mamba_n_heads", format!("a divisor of the inner width {d_inner}")).into());
        }
        let head_dim = d_inner / heads;
        // Granite writes "auto" where the width follows from the others.
        if config.get("mamba_d_head").is_some_and(|v| !v.is_string())
            && config.size_opt("mamba_d_head")?.is_some_and(|c| c != head_dim)
        {
            return Err(config.invalid("mamba_d_head", format!("{head_dim} = inner width / mamba_n_heads")).into());
        }
        let groups = config.size_within_or("mamba_n_groups", SMALL, 1)?;
        if !heads.is_multiple_of(groups) {
            return Err(config.invalid("mamba_n_groups", format!("a divisor of the {heads} heads")).into());
        }
        let mamba = Self {
            heads,
            head_dim,
            groups,
            d_state: config.size_within_or("mamba_d_state", SMALL, 256)?,
            d_conv: at_least_two(config, "mamba_d_conv", 4)?,
            conv_bias: config.flag_or("mamba_conv_bias", true)?,
            limit: time_step_limit(config)?,
        };
        mamba.check(config, "mamba_n_heads")?;
        Ok(mamba)
    }

    /// Refuses sizes whose products are nonsense; the error names `field`.
    pub fn check(&self, config: &Config, field: &str) -> Result<(), ArchError> {
        config.product(field, &[self.heads, self.head_dim], WIDTH)?;
        config.product(field, &[self.groups, self.d_state], WIDTH)?;
        config.product(field, &[self.heads, self.head_dim, self.d_state], WIDTH << 8)?;
        config.product(field, &[self.channels(), self.d_conv], WIDTH << 8)?;
        Ok(())
    }

    /// Width of x, of z and of the result.
    pub fn d_inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Channels of the convolution: x, B and C.
    pub fn channels(&self) -> usize {
        self.d_inner() + 2 * self.groups * self.d_state
    }

    /// Rows of in_proj: z, x, B, C, dt.
    pub fn widths(&self) -> [usize; 5] {
        [self.d_inner(), self.d_inner(), self.groups * self.d_state, self.groups * self.d_state, self.heads]
    }

    /// Appends it between its projections, behind whose gate is a norm of its groups.
    pub fn mixer(
        &self,
        g: &mut GraphBuilder,
        names: &Names,
        module: &str,
        normed: ValueId,
        eps: f32,
        biased: bool,
    ) -> ValueId {
        let (rows, hidden) = (self.widths().iter().sum(), g.whole(normed).width);
        let matrix = |what: &str, rows, columns| vec![names.matrix(&format!("{module}{what}"), rows, columns)];
        let vector = |what: &str, length| names.vector(&format!("{module}{what}"), length);
        let in_proj = g.matrix(names.value("in_proj"), matrix("in_proj.weight", rows, hidden));
        let bias = biased.then(|| g.vector(vector("in_proj.bias", rows)));
        let projected = g.linear(names.value("in_proj"), normed, in_proj, bias);
        let [z, xbc, dt] = g.split(projected, [self.d_inner(), self.channels(), self.heads]);
        let y = self.build(g, names, module, z, xbc, dt);
        let norm = g.vector(vector("norm.weight", self.d_inner()));
        let y = g.norm(names.value("ssm_norm"), g.whole(y), NormKind::Rms, self.groups, eps, Some(norm), None);
        let out = g.matrix(names.value("out_proj"), matrix("out_proj.weight", hidden, self.d_inner()));
        let bias = biased.then(|| g.vector(vector("out_proj.bias", hidden)));
        g.linear(names.value("out_proj"), y, out, bias)
    }

    /// Appends it. `module` is the tensors' prefix within the layer: `mamba.`, `mixer.`
    pub fn build(&self, g: &mut GraphBuilder, names: &Names, module: &str, z: View, xbc: View, dt: View) -> ValueId {
        let vector = |what: &str, length| names.vector(&format!("{module}{what}"), length);
        let channels = self.channels();
        let conv_state = StateKind::Conv { channels, d_conv: self.d_conv };
        let kernel = Part::all(names.tensor(&format!("{module}conv1d.weight")), &[channels, 1, self.d_conv]);
        let shape = vec![self.heads, self.head_dim, self.d_state];
        let spec = Mamba2Spec {
            conv: g.vector(kernel),
            conv_bias: self.conv_bias.then(|| g.vector(vector("conv1d.bias", channels))),
            conv_state: g.state(names.value("conv"), names.layer, conv_state),
            a: g.vector(vector("A_log", self.heads).mapped(Map::NegExp)),
            d: g.vector(vector("D", self.heads)),
            dt_bias: g.vector(vector("dt_bias", self.heads)),
            limit: self.limit,
            heads: self.heads,
            groups: self.groups,
            state: g.state(names.value("ssm"), names.layer, StateKind::Recurrent { shape, channels_last: false }),
        };
        g.mamba2_mixer(&names.block(), z, xbc, dt, &spec)
    }
}

/// `time_step_limit`, by default none.
pub(crate) fn time_step_limit(config: &Config) -> Result<(f32, f32), ArchError> {
    let limit = config.numbers("time_step_limit")?.unwrap_or_else(|| vec![0.0, f64::INFINITY]);
    match limit.as_slice() {
        &[low, high] if low <= high && low < f64::INFINITY => Ok((low as f32, high as f32)),
        _ => Err(config.invalid("time_step_limit", "a lower and an upper limit").into()),
    }
}

/// Rows that a convolution reads.
pub(crate) fn at_least_two(config: &Config, field: &str, default: usize) -> Result<usize, ArchError> {
    let d_conv = config.size_within_or(field, SMALL, default)?;
    if d_conv < 2 { Err(config.invalid(field, "at least 2").into()) } else { Ok(d_conv) }
}
