//! LFM2's gated short convolution.

use super::{Names, at_least_two};
use crate::arch::{ArchError, Config};
use crate::graph::{Function, GraphBuilder, Part, StateKind, ValueId};

/// `out_proj(C * conv(B * x))`, with B, C and x of one projection, and no activation.
#[derive(Clone, Copy)]
pub(crate) struct ShortConv {
    d_conv: usize,
    /// Whether convolution and projections have biases.
    biased: bool,
}

impl ShortConv {
    /// Reads the sizes under the names that LFM2 uses.
    pub fn parse(config: &Config, d_conv: usize) -> Result<Self, ArchError> {
        Ok(Self { d_conv: at_least_two(config, "conv_L_cache", d_conv)?, biased: config.flag_or("conv_bias", false)? })
    }

    /// Appends it.
    pub fn build(self, g: &mut GraphBuilder, names: &Names, normed: ValueId, hidden: usize) -> ValueId {
        let Self { d_conv, biased } = self;
        let matrix = |what: &str, rows| vec![names.matrix(&format!("conv.{what}.weight"), rows, hidden)];
        let bias = |g: &mut GraphBuilder, what: &str, rows| {
            biased.then(|| g.vector(names.vector(&format!("conv.{what}.bias"), rows)))
        };
        let in_proj = g.matrix(names.value("in_proj"), matrix("in_proj", 3 * hidden));
        let in_bias = bias(g, "in_proj", 3 * hidden);
        let projected = g.linear(names.value("in_proj"), normed, in_proj, in_bias);
        let [b, c, x] = g.split(projected, [hidden, hidden, hidden]);
        let gated = g.gate(names.value("conv_in"), b, x, Function::Identity);
        let columns = g.state(names.value("conv"), names.layer, StateKind::Conv { channels: hidden, d_conv });
        let kernel = g.vector(Part::all(names.tensor("conv.conv.weight"), &[hidden, 1, d_conv]));
        let conv_bias = bias(g, "conv", hidden);
        let gated = g.whole(gated);
        let convolved = g.conv(names.value("convolved"), gated, kernel, conv_bias, columns, Function::Identity);
        let gated = g.gate(names.value("conv_out"), c, g.whole(convolved), Function::Identity);
        let out = g.matrix(names.value("out_proj"), matrix("out_proj", hidden));
        let out_bias = bias(g, "out_proj", hidden);
        g.linear(names.value("out_proj"), gated, out, out_bias)
    }
}
