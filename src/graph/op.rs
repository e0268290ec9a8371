//! The closed set of primitive ops. Each has a sequential twin in `backend/cpu`, a WGSL kernel in
//! `shaders/` and a CUDA kernel in `native-cuda/kernels`, in files of the same name.

use super::{RotaryId, StateId, ValueId, View, WeightId};

/// A pointwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `x`
    Identity,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `max(x, 0)^2`
    SquaredRelu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

impl Function {
    /// The function itself, in f32.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Silu => x / (1.0 + (-x).exp()),
            // NaN stays NaN.
            Self::SquaredRelu => (if x < 0.0 { 0.0 } else { x }).powi(2),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }
}

/// Which statistics a norm takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps)`, biased variance
    Layer,
    /// `x / sqrt(sum(x^2) + eps)`
    L2,
}

/// How the weights of a row's chosen experts come from its logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Routing {
    /// The softmax over the logits of the chosen ones.
    Softmax,
    /// `sigmoid(logit) * scale`, divided by the sum of the chosen ones' sigmoids (plus 1e-20) if `normed`.
    Sigmoid {
        /// Whether to divide.
        normed: bool,
        /// Factor on every weight.
        scale: f32,
    },
}

/// One primitive. `r` is a row, `t` its place in its span, `p` its position.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the formula of each op explains its fields")]
pub enum Op {
    /// `out[r] = table[token(r)] * scale`; ids up to the rows of the table, so that learned rows that
    /// are not words (meta tokens) have ids past the vocabulary.
    Embed { table: WeightId, scale: f32, out: ValueId },
    /// Each of `groups` equal runs of columns is normed for itself, then multiplied by `weight` and
    /// `bias` added. `weight` is as wide as `x`, or as one group and shared by all of them.
    Norm {
        x: View,
        kind: NormKind,
        groups: usize,
        eps: f32,
        weight: Option<WeightId>,
        bias: Option<WeightId>,
        out: ValueId,
    },
    /// `out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o]` for the first `width(out)` rows of the weight.
    Linear { x: ValueId, weight: WeightId, bias: Option<WeightId>, out: ValueId },
    /// `out = function(gate) * x`. Without a gate's partner: an [`Op::Activation`].
    Gate { gate: View, x: View, function: Function, out: ValueId },
    /// `out = function(x) * scale`.
    Activation { x: View, function: Function, scale: f32, out: ValueId },
    /// `out = a + scale * b`.
    Add { a: View, b: View, scale: f32, out: ValueId },
    /// Depthwise causal convolution over the span, with the columns before it taken from `state`:
    /// `out[t, c] = function(bias[c] + sum_j weight[c, j] * x[t - (taps - 1) + j, c])`. Reads the state only.
    Conv { x: View, weight: WeightId, bias: Option<WeightId>, state: StateId, function: Function, out: ValueId },
    /// Leaves the last `taps - 1` rows of `x` of every span in `state`. Runs after [`Op::Conv`].
    ConvAppend { x: View, state: StateId },
    /// Rotates the first `2 * pairs` columns of every head by the angle of the row's position, pairing
    /// column `j` with `j + pairs` (half-split), and multiplies them by the rotary's scale; the other columns pass
    /// through.
    Rope { x: View, heads: usize, rotary: RotaryId, out: ValueId },
    /// Softmax attention of `heads` query heads over the keys before the span (from `state`) and the
    /// span's own (`k`, `v`). A key at `j` is seen from `i` when `j <= i` and
    /// (`window` is none, or `i - j <= window`, or `j < pinned`). A span of one row uses `decode_window`.
    /// Query head `h` reads KV head `h / (heads / kv_heads)`. Reads the state only.
    Attention {
        q: View,
        k: View,
        v: View,
        state: StateId,
        heads: usize,
        scale: f32,
        window: Option<usize>,
        decode_window: Option<usize>,
        out: ValueId,
    },
    /// Puts the span's keys and values into `state`. Runs after the last reader of that state.
    KvAppend { k: View, v: View, state: StateId },
    /// Mamba-1. With `D = softplus(dt[t, c])`: `s[c, n] <- exp(D a[c, n]) s[c, n] + D x[t, c] b[t, n]`,
    /// `out[t, c] = sum_n s[c, n] c[t, n] + d[c] x[t, c]`. Reads and writes the state `[channels, N]`.
    SelectiveScan { x: View, dt: View, b: View, c: View, a: WeightId, d: WeightId, state: StateId, out: ValueId },
    /// Mamba-2 (SSD). With `D = clamp(softplus(dt[t, h] + dt_bias[h]), limit)` and group `g = h / (heads / groups)`:
    /// `s[h, p, n] <- exp(D a[h]) s[h, p, n] + D x[t, h, p] b[t, g, n]`,
    /// `out[t, h, p] = sum_n s[h, p, n] c[t, g, n] + d[h] x[t, h, p]`. State `[heads, P, N]`.
    SsdScan {
        x: View,
        dt: View,
        b: View,
        c: View,
        a: WeightId,
        d: WeightId,
        dt_bias: WeightId,
        limit: (f32, f32),
        heads: usize,
        groups: usize,
        state: StateId,
        out: ValueId,
    },
    /// The gated delta rule. Value head `h` reads query and key head `g = h / (heads / key_heads)`. With
    /// `D = exp(a[h] * softplus(dt[t, h] + dt_bias[h]))` and `B = sigmoid(beta[t, h])`, in this order:
    /// `s[h, i, j] <- D s[h, i, j]`, `e[j] = B (v[t, h, j] - sum_i s[h, i, j] k[t, g, i])`,
    /// `s[h, i, j] <- s[h, i, j] + k[t, g, i] e[j]`, `out[t, h, j] = scale * sum_i s[h, i, j] q[t, g, i]`.
    /// Queries and keys come normed. State `[heads, key width, value width]`.
    GatedDelta {
        q: View,
        k: View,
        v: View,
        beta: View,
        dt: View,
        a: WeightId,
        dt_bias: WeightId,
        scale: f32,
        heads: usize,
        key_heads: usize,
        state: StateId,
        out: ValueId,
    },
    /// Chooses `top` experts of every row, the largest first, the lower id on a tie. What is compared is the
    /// logit, or for [`Routing::Sigmoid`] its sigmoid, plus `bias`. Only the `top_groups` best of `groups` equal
    /// runs of experts are looked at; a group is worth the sum of its two best. `out` holds the `top` ids (as
    /// numbers), then their `top` weights, which know nothing of `bias`.
    MoeRoute {
        logits: View,
        bias: Option<WeightId>,
        routing: Routing,
        groups: usize,
        top_groups: usize,
        top: usize,
        out: ValueId,
    },
    /// `out[r] = sum_e weight_e * down_e h_e` over the experts that `routes` (of [`Op::MoeRoute`]) chose, with
    /// `h_e = function(up_e x[r])`; if `gated`, `up_e` has two halves and `h_e = function(first) * second`.
    /// Both weights hold one expert's rows after the other's.
    MoeApply {
        x: ValueId,
        routes: ValueId,
        up: WeightId,
        down: WeightId,
        experts: usize,
        function: Function,
        gated: bool,
        out: ValueId,
    },
    /// The rows whose logits are wanted: `out[o] = x[output_row(o)]`.
    Gather { x: View, out: ValueId },
    /// Chooses a token from each row of logits and leaves it in the row's slot.
    Sample { logits: ValueId },
}

impl Op {
    /// The name of the files that implement it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::Norm { .. } => "norm",
            Self::Linear { .. } => "linear",
            Self::Gate { .. } => "gate",
            Self::Activation { .. } => "activation",
            Self::Add { .. } => "add",
            Self::Conv { .. } => "conv",
            Self::ConvAppend { .. } => "conv_append",
            Self::Rope { .. } => "rope",
            Self::Attention { .. } => "attention",
            Self::KvAppend { .. } => "kv_append",
            Self::SelectiveScan { .. } => "selective_scan",
            Self::SsdScan { .. } => "ssd_scan",
            Self::GatedDelta { .. } => "gated_delta",
            Self::MoeRoute { .. } => "moe_route",
            Self::MoeApply { .. } => "moe_apply",
            Self::Gather { .. } => "gather",
            Self::Sample { .. } => "sample",
        }
    }

    /// The values it reads.
    pub fn reads(&self) -> Vec<View> {
        let whole = |value| View { value, offset: 0, width: usize::MAX };
        match *self {
            Self::Embed { .. } => vec![],
            Self::Linear { x, .. } => vec![whole(x)],
            Self::Sample { logits } => vec![whole(logits)],
            Self::Norm { x, .. }
            | Self::Activation { x, .. }
            | Self::Conv { x, .. }
            | Self::ConvAppend { x, .. }
            | Self::Rope { x, .. }
            | Self::Gather { x, .. } => vec![x],
            Self::Gate { gate, x, .. } => vec![gate, x],
            Self::Add { a, b, .. } => vec![a, b],
            Self::Attention { q, k, v, .. } => vec![q, k, v],
            Self::KvAppend { k, v, .. } => vec![k, v],
            Self::SelectiveScan { x, dt, b, c, .. } | Self::SsdScan { x, dt, b, c, .. } => vec![x, dt, b, c],
            Self::GatedDelta { q, k, v, beta, dt, .. } => vec![q, k, v, beta, dt],
            Self::MoeRoute { logits, .. } => vec![logits],
            Self::MoeApply { x, routes, .. } => vec![whole(x), whole(routes)],
        }
    }

    /// The value it makes, if it makes one.
    pub fn writes(&self) -> Option<ValueId> {
        match *self {
            Self::Embed { out, .. }
            | Self::Norm { out, .. }
            | Self::Linear { out, .. }
            | Self::Gate { out, .. }
            | Self::Activation { out, .. }
            | Self::Add { out, .. }
            | Self::Conv { out, .. }
            | Self::Rope { out, .. }
            | Self::Attention { out, .. }
            | Self::SelectiveScan { out, .. }
            | Self::SsdScan { out, .. }
            | Self::GatedDelta { out, .. }
            | Self::MoeRoute { out, .. }
            | Self::MoeApply { out, .. }
            | Self::Gather { out, .. } => Some(out),
            Self::ConvAppend { .. } | Self::KvAppend { .. } | Self::Sample { .. } => None,
        }
    }

    /// The weights it reads.
    pub fn weights(&self) -> Vec<WeightId> {
        match *self {
            Self::Embed { table, .. } => vec![table],
            Self::Norm { weight, bias, .. } => weight.into_iter().chain(bias).collect(),
            Self::Linear { weight, bias, .. } | Self::Conv { weight, bias, .. } => {
                std::iter::once(weight).chain(bias).collect()
            }
            Self::SelectiveScan { a, d, .. } => vec![a, d],
            Self::SsdScan { a, d, dt_bias, .. } => vec![a, d, dt_bias],
            Self::GatedDelta { a, dt_bias, .. } => vec![a, dt_bias],
            Self::MoeRoute { bias, .. } => bias.into_iter().collect(),
            Self::MoeApply { up, down, .. } => vec![up, down],
            _ => vec![],
        }
    }

    /// The memory it touches, if any.
    pub fn state(&self) -> Option<StateId> {
        match *self {
            Self::Conv { state, .. }
            | Self::ConvAppend { state, .. }
            | Self::Attention { state, .. }
            | Self::KvAppend { state, .. }
            | Self::SelectiveScan { state, .. }
            | Self::SsdScan { state, .. }
            | Self::GatedDelta { state, .. } => Some(state),
            _ => None,
        }
    }
}
