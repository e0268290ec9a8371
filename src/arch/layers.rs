//! Pieces that families share: attention, feed-forward, the Mamba-2 mixer. Each takes what
//! differs as data; none asks which family it serves.

use super::config::{SMALL, WIDTH};
use super::{ArchError, Config};
use crate::graph::{
    Function, GraphBuilder, KvSpec, Map, NormKind, Op, Part, Rotary, RotaryId, Rows, StateKind, ValueId, View,
    WeightClass, WeightId, WeightRecipe,
};

/// Names of a layer's tensors and values.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Index of the layer.
    pub layer: usize,
    /// In front of the tensors' names, with the dot: `model.layers.3.`
    pub prefix: String,
}

impl Names {
    /// A value's or a weight's name.
    pub fn value(&self, what: &str) -> String {
        format!("layers.{}.{what}", self.layer)
    }

    /// A tensor's name.
    pub fn tensor(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    /// All rows of a tensor `[rows, columns]` of the layer.
    pub fn matrix(&self, what: &str, rows: usize, columns: usize) -> Part {
        Part::all(self.tensor(what), &[rows, columns])
    }

    /// A vector of the layer.
    pub fn vector(&self, what: &str, length: usize) -> Part {
        Part::all(self.tensor(what), &[length])
    }
}

/// A vector made of parts, one after the other.
pub(super) fn vectors(g: &mut GraphBuilder, name: String, parts: Vec<Part>) -> WeightId {
    g.weight(WeightRecipe::new(name, WeightClass::Vector, parts))
}

/// Self-attention from the normed stream to the width of the stream.
pub(super) struct Attention {
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub scale: f32,
    pub rotary: Option<RotaryId>,
    /// Rows of q, k and v, in this order, with whatever is folded into them.
    pub qkv: Vec<Part>,
    /// Their biases, or none.
    pub qkv_bias: Option<Vec<Part>>,
    /// RMS norm of every head of q and of k, before the rotation: weights `[head]`.
    pub qk_norm: Option<([Part; 2], f32)>,
    /// Rows whose sigmoid every column of every head is multiplied with, or none.
    pub gate: Option<Vec<Part>>,
    pub out: Part,
}

impl Attention {
    /// The softmax scale everybody uses who does not say otherwise.
    pub fn usual_scale(head: usize) -> f32 {
        (1.0 / (head as f64).sqrt()) as f32
    }

    /// Without biases, norms and gate, of the tensors `q_proj.weight` and so on of `module`: `self_attn.`, `mixer.`
    pub fn plain(
        names: &Names,
        module: &str,
        hidden: usize,
        (heads, kv_heads, head): (usize, usize, usize),
        rotary: Option<RotaryId>,
    ) -> Self {
        let (q_rows, kv_rows) = (heads * head, kv_heads * head);
        let matrix = |p: &str, rows, columns| names.matrix(&format!("{module}{p}_proj.weight"), rows, columns);
        Self {
            heads,
            kv_heads,
            head,
            scale: Self::usual_scale(head),
            rotary,
            qkv: [("q", q_rows), ("k", kv_rows), ("v", kv_rows)].map(|(p, rows)| matrix(p, rows, hidden)).into(),
            qkv_bias: None,
            qk_norm: None,
            gate: None,
            out: matrix("o", hidden, q_rows),
        }
    }

    /// Appends it.
    pub fn build(self, g: &mut GraphBuilder, names: &Names, normed: ValueId) -> ValueId {
        let (q_columns, kv_columns) = (self.heads * self.head, self.kv_heads * self.head);
        let gated = self.gate.is_some();
        let rows = self.qkv.into_iter().chain(self.gate.into_iter().flatten());
        let qkv = g.matrix(names.value("qkv"), rows.collect());
        let bias = self.qkv_bias.map(|parts| vectors(g, names.value("qkv_bias"), parts));
        let qkv = g.linear(names.value("qkv"), normed, qkv, bias);
        let [mut q, mut k, v] = g.split(qkv, [q_columns, kv_columns, kv_columns]);
        if let Some(([q_norm, k_norm], eps)) = self.qk_norm {
            // Queries and keys as one value: what is done to their heads is done once.
            let heads = self.heads + self.kv_heads;
            let weights = std::iter::repeat_n(q_norm, self.heads).chain(std::iter::repeat_n(k_norm, self.kv_heads));
            let weight = vectors(g, names.value("qk_norm"), weights.collect());
            let both = g.view(qkv, 0, q_columns + kv_columns);
            let mut both = g.norm(names.value("qk_norm"), both, NormKind::Rms, heads, eps, Some(weight), None);
            if let Some(rotary) = self.rotary {
                let normed = g.whole(both);
                both = g.rope(names.value("qk"), normed, heads, rotary);
            }
            [q, k] = g.split(both, [q_columns, kv_columns]);
        } else if let Some(rotary) = self.rotary {
            let rotated_q = g.rope(names.value("q"), q, self.heads, rotary);
            let rotated_k = g.rope(names.value("k"), k, self.kv_heads, rotary);
            (q, k) = (g.whole(rotated_q), g.whole(rotated_k));
        }
        let mut attended = attend(g, names, q, k, v, self.heads, self.kv_heads, self.head, self.scale);
        if gated {
            let gate = g.view(qkv, q_columns + 2 * kv_columns, q_columns);
            attended = g.gate(names.value("attn_gated"), gate, g.whole(attended), Function::Sigmoid);
        }
        let out = g.matrix(names.value("attn_out"), vec![self.out]);
        g.linear(names.value("attn_out"), attended, out, None)
    }
}

/// Global attention of q over k and v, which are kept.
pub(super) fn attend(
    g: &mut GraphBuilder,
    names: &Names,
    q: View,
    k: View,
    v: View,
    heads: usize,
    kv_heads: usize,
    head: usize,
    scale: f32,
) -> ValueId {
    let spec = KvSpec { heads: kv_heads, key_width: head, value_width: head, pinned: 0, window: None };
    let state = g.kv(names.layer, spec);
    let out = g.value(names.value("attn"), heads * head, Rows::All);
    g.push(Op::Attention { q, k, v, state, heads, scale, window: None, decode_window: None, out });
    g.push(Op::KvAppend { k, v, state });
    out
}

/// The Mamba-2 block between its projections: convolution, scan, gate. Gives `y * silu(z)`.
pub(super) struct Mamba2 {
    pub heads: usize,
    /// Columns of a head.
    pub columns: usize,
    pub groups: usize,
    pub states: usize,
    pub taps: usize,
    pub conv_bias: bool,
    pub limit: (f32, f32),
}

impl Mamba2 {
    /// Reads the sizes under the names that Falcon-H1 and Granite use; `inner` is known already.
    pub fn parse(config: &Config, inner: usize) -> Result<Self, ArchError> {
        let heads = config.size("mamba_n_heads")?;
        if !inner.is_multiple_of(heads) {
            return Err(config.invalid("mamba_n_heads", format!("a divisor of the inner width {inner}")).into());
        }
        let columns = inner / heads;
        // Granite writes "auto" where the width follows from the others.
        if config.get("mamba_d_head").is_some_and(|v| !v.is_string())
            && config.size_opt("mamba_d_head")?.is_some_and(|c| c != columns)
        {
            return Err(config.invalid("mamba_d_head", format!("{columns} = inner width / mamba_n_heads")).into());
        }
        let groups = config.size_within("mamba_n_groups", SMALL)?;
        if !heads.is_multiple_of(groups) {
            return Err(config.invalid("mamba_n_groups", format!("a divisor of the {heads} heads")).into());
        }
        let mamba = Self {
            heads,
            columns,
            groups,
            states: config.size_within("mamba_d_state", SMALL)?,
            taps: at_least_two(config, "mamba_d_conv")?,
            conv_bias: config.flag_or("mamba_conv_bias", true)?,
            limit: time_step_limit(config)?,
        };
        mamba.check(config, "mamba_n_heads")?;
        Ok(mamba)
    }

    /// Refuses sizes whose products are nonsense; the error names `field`.
    pub fn check(&self, config: &Config, field: &str) -> Result<(), ArchError> {
        config.product(field, &[self.heads, self.columns], WIDTH)?;
        config.product(field, &[self.groups, self.states], WIDTH)?;
        config.product(field, &[self.heads, self.columns, self.states], WIDTH << 8)?;
        config.product(field, &[self.channels(), self.taps], WIDTH << 8)?;
        Ok(())
    }

    /// Width of x, of z and of the result.
    pub fn inner(&self) -> usize {
        self.heads * self.columns
    }

    /// Channels of the convolution: x, B and C.
    pub fn channels(&self) -> usize {
        self.inner() + 2 * self.groups * self.states
    }

    /// Rows of in_proj: z, x, B, C, dt.
    pub fn widths(&self) -> [usize; 5] {
        [self.inner(), self.inner(), self.groups * self.states, self.groups * self.states, self.heads]
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
        let [z, xbc, dt] = g.split(projected, [self.inner(), self.channels(), self.heads]);
        let y = self.build(g, names, module, z, xbc, dt);
        let norm = g.vector(vector("norm.weight", self.inner()));
        let y = g.norm(names.value("ssm_norm"), g.whole(y), NormKind::Rms, self.groups, eps, Some(norm), None);
        let out = g.matrix(names.value("out_proj"), matrix("out_proj.weight", hidden, self.inner()));
        let bias = biased.then(|| g.vector(vector("out_proj.bias", hidden)));
        g.linear(names.value("out_proj"), y, out, bias)
    }

    /// Appends it. `module` is the tensors' prefix within the layer: `mamba.`, `mixer.`
    pub fn build(&self, g: &mut GraphBuilder, names: &Names, module: &str, z: View, xbc: View, dt: View) -> ValueId {
        let vector = |what: &str, length| names.vector(&format!("{module}{what}"), length);
        let columns = StateKind::Conv { channels: self.channels(), taps: self.taps };
        let columns = g.state(names.value("conv"), names.layer, columns);
        let kernel = Part::all(names.tensor(&format!("{module}conv1d.weight")), &[self.channels(), 1, self.taps]);
        let kernel = g.vector(kernel);
        let bias = self.conv_bias.then(|| g.vector(vector("conv1d.bias", self.channels())));
        let convolved = g.conv(names.value("conv_silu"), xbc, kernel, bias, columns, Function::Silu);
        let [x, b, c] = g.split(convolved, [self.inner(), self.groups * self.states, self.groups * self.states]);
        let a = g.vector(vector("A_log", self.heads).mapped(Map::NegExp));
        let d = g.vector(vector("D", self.heads));
        let dt_bias = g.vector(vector("dt_bias", self.heads));
        let shape = vec![self.heads, self.columns, self.states];
        let state = g.state(names.value("ssm"), names.layer, StateKind::Recurrent { shape, channels_last: false });
        let y = g.value(names.value("ssm"), self.inner(), Rows::All);
        let (limit, heads, groups) = (self.limit, self.heads, self.groups);
        g.push(Op::SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, out: y });
        g.gate(names.value("ssm_gated"), z, g.whole(y), Function::Silu)
    }
}

/// `time_step_limit`, by default none.
pub(super) fn time_step_limit(config: &Config) -> Result<(f32, f32), ArchError> {
    let limit = config.numbers("time_step_limit")?.unwrap_or_else(|| vec![0.0, f64::INFINITY]);
    match limit.as_slice() {
        &[low, high] if low <= high && low < f64::INFINITY => Ok((low as f32, high as f32)),
        _ => Err(config.invalid("time_step_limit", "a lower and an upper limit").into()),
    }
}

/// Taps of a convolution.
pub(super) fn at_least_two(config: &Config, field: &str) -> Result<usize, ArchError> {
    let taps = config.size_within(field, SMALL)?;
    if taps < 2 { Err(config.invalid(field, "at least 2").into()) } else { Ok(taps) }
}

/// `down(silu(gate x) * up x)`; `gate_up` holds the gate's rows, then up's.
pub(super) fn swiglu(
    g: &mut GraphBuilder,
    names: &Names,
    normed: ValueId,
    width: usize,
    gate_up: Vec<Part>,
    down: Part,
) -> ValueId {
    let gate_up = g.matrix(names.value("gate_up"), gate_up);
    let both = g.linear(names.value("gate_up"), normed, gate_up, None);
    let [gate, up] = g.split(both, [width, width]);
    let gated = g.gate(names.value("gated"), gate, up, Function::Silu);
    let down = g.matrix(names.value("down"), vec![down]);
    g.linear(names.value("ffn"), gated, down, None)
}

/// `down(relu(up x)^2)`, with biases or without.
pub(super) fn squared_relu(
    g: &mut GraphBuilder,
    names: &Names,
    normed: ValueId,
    [up, down]: [Part; 2],
    biases: Option<[Part; 2]>,
) -> ValueId {
    let [up_bias, down_bias] = match biases {
        Some(biases) => biases.map(|part| Some(g.vector(part))),
        None => [None, None],
    };
    let up = g.matrix(names.value("up"), vec![up]);
    let raised = g.linear(names.value("up"), normed, up, up_bias);
    let squared = g.activation(names.value("squared"), g.whole(raised), Function::SquaredRelu, 1.0);
    let down = g.matrix(names.value("down"), vec![down]);
    g.linear(names.value("ffn"), squared, down, down_bias)
}

/// Heads, KV heads and the width of a head.
pub(super) fn head_sizes(config: &Config, hidden: usize, widths: &[&str]) -> Result<(usize, usize, usize), ArchError> {
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.size_opt("num_key_value_heads")?.unwrap_or(heads);
    if kv_heads > heads || !heads.is_multiple_of(kv_heads) {
        return Err(config.invalid("num_key_value_heads", format!("a divisor of the {heads} heads")).into());
    }
    let named = widths.iter().copied().find(|w| config.get(w).is_some());
    let head = match named {
        Some(name) => config.size_within(name, SMALL)?,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(config.invalid("num_attention_heads", format!("a divisor of hidden_size {hidden}")).into()),
    };
    config.product("num_attention_heads", &[heads, head], WIDTH)?;
    Ok((heads, kv_heads, head))
}

/// Whether each layer is attention, by what `layer_types` calls it: one of `kinds`. `None` where a config has no such
/// list.
pub(super) fn attention_layers(
    config: &Config,
    layers: usize,
    kinds: &[(&str, bool)],
) -> Result<Option<Vec<bool>>, ArchError> {
    let Some(types) = config.strings("layer_types")? else { return Ok(None) };
    if types.len() != layers {
        return Err(config.invalid("layer_types", format!("a list of {layers} layers")).into());
    }
    let attention = |name: &String| match kinds.iter().find(|(kind, _)| kind == name) {
        Some(&(_, attention)) => Ok(attention),
        None => {
            let kinds: Vec<&str> = kinds.iter().map(|&(kind, _)| kind).collect();
            Err(config.unsupported("layer_types", kinds.join(", ")).into())
        }
    };
    types.iter().map(attention).collect::<Result<_, _>>().map(Some)
}

/// The rotary embedding of a config without scaling, over the first `rotated` columns of a head.
pub(super) fn plain_rotary(config: &Config, rotated: usize, theta: f64) -> Result<Rotary, ArchError> {
    if config.get("rope_scaling").is_some() {
        return Err(config.unsupported("rope_scaling", "null").into());
    }
    if let Some(rope) = config.nested("rope_parameters") {
        rope.expect("rope_type", &"default".into())?;
    }
    if rotated < 2 || !rotated.is_multiple_of(2) {
        return Err(config.invalid("head_dim", "an even number of rotated columns").into());
    }
    Ok(Rotary::from_base(config.rope_theta(theta)?, rotated))
}
