//! Self-attention over what a sequence has read, and the sizes of its heads.

use super::{Names, vectors};
use crate::arch::config::{SMALL, WIDTH};
use crate::arch::{ArchError, Config};
use crate::graph::ops::Growth;
use crate::graph::{Function, GraphBuilder, KvSpec, NormKind, Part, RotaryId, Rows, ValueId, View, ops};

/// Self-attention from the normed stream to the width of the stream.
pub(crate) struct Attention {
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub scale: f32,
    pub rotary: Option<RotaryId>,
    /// Growth of the rotated queries with the position.
    pub growth: Option<Growth>,
    /// Positions before a token that it sees; `None`: all.
    pub window: Option<usize>,
    /// Rows of q, k and v, in this order, with whatever is folded into them.
    pub qkv: Vec<Part>,
    /// Their biases, or none.
    pub qkv_bias: Option<Vec<Part>>,
    /// RMS norm of every head of q and of k, before the rotation: weights `[head]`.
    pub qk_norm: Option<([Part; 2], f32)>,
    /// Rows of gates whose sigmoid the heads' columns are multiplied with, or none: one a column, or one a head.
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
            growth: None,
            window: None,
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
        let gates: usize = self.gate.iter().flatten().map(|part| part.rows.len()).sum();
        let rows = self.qkv.into_iter().chain(self.gate.into_iter().flatten());
        let qkv = g.matrix(names.value("qkv"), rows.collect());
        let bias = self.qkv_bias.map(|parts| vectors(g, names.value("qkv_bias"), parts));
        let qkv = g.linear(names.value("qkv"), normed, qkv, bias);
        let mut rotary = self.rotary;
        let [mut q, mut k, v] = g.split(qkv, [q_columns, kv_columns, kv_columns]);
        if let Some(([q_norm, k_norm], eps)) = self.qk_norm {
            // Queries and keys as one value: what is done to their heads is done once.
            let heads = self.heads + self.kv_heads;
            let weights = std::iter::repeat_n(q_norm, self.heads).chain(std::iter::repeat_n(k_norm, self.kv_heads));
            let weight = vectors(g, names.value("qk_norm"), weights.collect());
            let both = g.view(qkv, 0, q_columns + kv_columns);
            let mut both = g.norm(names.value("qk_norm"), both, NormKind::Rms, heads, eps, Some(weight), None);
            if let Some(rotary) = rotary.take_if(|_| self.growth.is_none()) {
                let normed = g.whole(both);
                both = g.rope(names.value("qk"), normed, heads, rotary);
            }
            [q, k] = g.split(both, [q_columns, kv_columns]);
        }
        if let Some(rotary) = rotary {
            let rotated_q = g.rope_growing(names.value("q"), q, self.heads, rotary, self.growth);
            let rotated_k = g.rope(names.value("k"), k, self.kv_heads, rotary);
            (q, k) = (g.whole(rotated_q), g.whole(rotated_k));
        }
        let sizes = (self.heads, self.kv_heads, self.head);
        let mut attended = attend(g, names, [q, k, v], sizes, self.scale, self.window);
        if gates > 0 {
            let gate = g.view(qkv, q_columns + 2 * kv_columns, gates);
            attended = g.gate(names.value("attn_gated"), gate, g.whole(attended), Function::Sigmoid);
        }
        let out = g.matrix(names.value("attn_out"), vec![self.out]);
        g.linear(names.value("attn_out"), attended, out, None)
    }
}

/// Attention of q over k and v, which are kept: all of them, or those of so many positions before a token. Sizes are heads,
/// KV heads and the width of a head.
pub(crate) fn attend(
    g: &mut GraphBuilder,
    names: &Names,
    [q, k, v]: [View; 3],
    (heads, kv_heads, head): (usize, usize, usize),
    scale: f32,
    window: Option<usize>,
) -> ValueId {
    let spec = KvSpec { heads: kv_heads, key_width: head, value_width: head, pinned: 0, window };
    let state = g.kv(names.layer, spec);
    let out = g.value(names.value("attn"), heads * head, Rows::All);
    g.push(ops::Attention { q, k, v, state, heads, scale, window, decode_window: window, out });
    g.push(ops::KvAppend { k, v, state });
    out
}

/// Values of the fields about heads that a config lacks.
#[derive(Clone, Copy, Default)]
pub(crate) struct HeadDefaults {
    /// Of `num_key_value_heads`; `None`, and for a `null`: as many as there are heads.
    pub kv_heads: Option<usize>,
    /// Of `head_dim`; `None`: `hidden_size / num_attention_heads`.
    pub head: Option<usize>,
}

/// Heads, KV heads and the width of a head, for which `widths` are names, the first one there is taken.
pub(crate) fn head_sizes(
    config: &Config,
    hidden: usize,
    widths: &[&str],
    defaults: HeadDefaults,
) -> Result<(usize, usize, usize), ArchError> {
    let heads = config.size("num_attention_heads")?;
    let default = defaults.kv_heads.filter(|_| !config.is_null("num_key_value_heads")).unwrap_or(heads);
    let kv_heads = config.size_or("num_key_value_heads", default)?;
    if kv_heads > heads || !heads.is_multiple_of(kv_heads) {
        let wanted = format!("a divisor of the {heads} heads (a missing one is {default})");
        return Err(config.invalid("num_key_value_heads", wanted).into());
    }
    let named = widths.iter().copied().find(|w| config.get(w).is_some());
    let head = match (named, defaults.head) {
        (Some(name), _) => config.size_within(name, SMALL)?,
        (None, Some(head)) => head,
        (None, None) if hidden.is_multiple_of(heads) => hidden / heads,
        (None, None) => {
            return Err(config.invalid("num_attention_heads", format!("a divisor of hidden_size {hidden}")).into());
        }
    };
    config.product("num_attention_heads", &[heads, head], WIDTH)?;
    Ok((heads, kv_heads, head))
}

/// Whether each layer is attention, by what `layer_types` calls it: one of `kinds`. `None` where a config has no such
/// list.
pub(crate) fn attention_layers(
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
