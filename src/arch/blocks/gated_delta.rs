//! Gated delta networks. Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464.

use super::{Attention, Names, at_least_two};
use crate::arch::config::{SMALL, WIDTH};
use crate::arch::{ArchError, Config};
use crate::graph::regions::GatedDeltaSpec;
use crate::graph::{GraphBuilder, Map, Part, StateKind, ValueId};

/// What keeps a norm of zero from dividing by it, in the norms of queries and keys; no option of the config.
const L2_EPS: f32 = 1e-6;

/// The mixer of most layers: convolution, gated delta rule, norm and gate of each head.
pub(crate) struct GatedDelta {
    /// Heads of q and of k.
    key_heads: usize,
    /// Heads of v, of the state and of the result.
    heads: usize,
    /// Columns of a head of q and of k.
    key: usize,
    /// Columns of a head of v.
    value: usize,
    d_conv: usize,
    eps: f32,
    rows: RowOrder,
}

/// The order of the rows of the projections in.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum RowOrder {
    /// A tensor for q, k and v, one for z, one for beta and one for dt.
    Apart,
    /// Two tensors, one after the other the rows of every key head: its q, its k, its v and z of several value heads; and
    /// beta and dt of these.
    ByKeyHead,
    /// A tensor for q, k and v and one for z, as [`Self::Apart`], one for beta and dt, as [`Self::ByKeyHead`]: what
    /// llama.cpp's converter makes of the latter.
    PartlyByKeyHead,
}

impl GatedDelta {
    /// Reads the sizes under the names that Qwen3.5 uses.
    pub fn parse(config: &Config, eps: f32, rows: RowOrder) -> Result<Self, ArchError> {
        let (key_heads, heads) =
            (config.size_or("linear_num_key_heads", 16)?, config.size_or("linear_num_value_heads", 32)?);
        if !heads.is_multiple_of(key_heads) {
            return Err(config.invalid("linear_num_key_heads", format!("a divisor of the {heads} value heads")).into());
        }
        let net = Self {
            key_heads,
            heads,
            key: config.size_within_or("linear_key_head_dim", SMALL, 128)?,
            value: config.size_within_or("linear_value_head_dim", SMALL, 128)?,
            d_conv: at_least_two(config, "linear_conv_kernel_dim", 4)?,
            eps,
            rows,
        };
        config.product("linear_num_key_heads", &[key_heads, net.key], WIDTH)?;
        config.product("linear_num_value_heads", &[heads, net.value], WIDTH)?;
        config.product("linear_num_value_heads", &[heads, net.key, net.value], WIDTH << 8)?;
        config.product("linear_conv_kernel_dim", &[net.channels(), net.d_conv], WIDTH << 8)?;
        Ok(net)
    }

    /// Width of q and of k.
    fn keys(&self) -> usize {
        self.key_heads * self.key
    }

    /// Width of v, of z and of the result.
    fn values(&self) -> usize {
        self.heads * self.value
    }

    /// Channels of the convolution: q, k and v.
    fn channels(&self) -> usize {
        2 * self.keys() + self.values()
    }

    /// Rows of q, k and v, then of z, of beta and of dt.
    fn in_proj(&self, names: &Names, hidden: usize) -> Vec<Part> {
        let Self { heads, key_heads, key, .. } = *self;
        let matrix = |what: &str, rows| names.matrix(&format!("linear_attn.in_proj_{what}.weight"), rows, hidden);
        if self.rows == RowOrder::Apart {
            let parts = [("qkv", self.channels()), ("z", self.values()), ("b", heads), ("a", heads)];
            return parts.map(|(what, rows)| matrix(what, rows)).into();
        }
        let (values, gates) = (self.values() / key_heads, heads / key_heads);
        let (qkvz, ba) = (2 * (key + values), 2 * gates);
        let of_heads = |what: &str, each: usize, first: usize, rows: usize| {
            let tensor = matrix(what, key_heads * each);
            (0..key_heads).map(move |head| tensor.clone().rows(head * each + first..head * each + first + rows))
        };
        let [beta, dt] = [0, gates].map(|first| of_heads("ba", ba, first, gates));
        if self.rows == RowOrder::PartlyByKeyHead {
            return [matrix("qkv", self.channels()), matrix("z", self.values())]
                .into_iter()
                .chain(beta)
                .chain(dt)
                .collect();
        }
        let [q, k] = [0, key].map(|first| of_heads("qkvz", qkvz, first, key));
        let [v, z] = [2 * key, 2 * key + values].map(|first| of_heads("qkvz", qkvz, first, values));
        q.chain(k).chain(v).chain(z).chain(beta).chain(dt).collect()
    }

    /// Appends it, its projections included.
    pub fn build(&self, g: &mut GraphBuilder, names: &Names, normed: ValueId, hidden: usize) -> ValueId {
        let Self { heads, key_heads, eps, .. } = *self;
        let vector = |what: &str, length| names.vector(&format!("linear_attn.{what}"), length);
        let in_proj = g.matrix(names.value("in_proj"), self.in_proj(names, hidden));
        let projected = g.linear(names.value("in_proj"), normed, in_proj, None);
        let [qkv, z, beta, dt] = g.split(projected, [self.channels(), self.values(), heads, heads]);

        let conv_state = StateKind::Conv { channels: self.channels(), d_conv: self.d_conv };
        let kernel = [self.channels(), 1, self.d_conv];
        let shape = vec![heads, self.key, self.value];
        let spec = GatedDeltaSpec {
            conv: g.vector(Part::all(names.tensor("linear_attn.conv1d.weight"), &kernel)),
            conv_state: g.state(names.value("conv"), names.layer, conv_state),
            key_eps: L2_EPS,
            a: g.vector(vector("A_log", heads).mapped(Map::NegExp)),
            dt_bias: g.vector(vector("dt_bias", heads)),
            scale: Attention::usual_scale(self.key),
            heads,
            key_heads,
            state: g.state(names.value("ssm"), names.layer, StateKind::Recurrent { shape, channels_last: true }),
            norm: g.vector(vector("norm.weight", self.value)),
            eps,
        };
        let y = g.gated_delta_mixer(&names.block(), [qkv, z, beta, dt], &spec);
        let out =
            g.matrix(names.value("out_proj"), vec![names.matrix("linear_attn.out_proj.weight", hidden, self.values())]);
        g.linear(names.value("out_proj"), y, out, None)
    }
}
